import { readFileSync } from "node:fs";

// "bullmq 6.7.0": the package as it is installed.
export function installed(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return `${name} ${JSON.parse(readFileSync(file, "utf8")).version}`;
}
