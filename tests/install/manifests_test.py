"""Goal: the manifests for vcpkg and Conan and the container file say what the sources need, have no
version of their own, and name files that exist. Neither tool is needed.

Method: what CMake looks for in the sources is compared with what the manifests name; the recipe of
Conan runs against a stand-in for its library, and CMake configures exactly the files that it exports;
the shell reads the commands of the container file.

    manifests_test.py SOURCE VERSION SCRATCH CMAKE GENERATOR
"""

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types

SOURCE, VERSION, SCRATCH, CMAKE, GENERATOR = sys.argv[1:6]

# What CMake calls it, what vcpkg calls it, what Conan calls it. None: it is no library of others.
LIBRARIES = {
    "libnats": ("cnats", "cnats"),
    "fmt": ("fmt", "fmt"),
    "nlohmann_json": ("nlohmann-json", "nlohmann_json"),
    "OpenSSL": ("openssl", "openssl"),
    "simdjson": ("simdjson", "simdjson"),
    "tomlplusplus": ("tomlplusplus", "tomlplusplus"),
    "CLI11": ("cli11", "cli11"),
    "yaml-cpp": ("yaml-cpp", "yaml-cpp"),
    "cpp-httplib": ("cpp-httplib", "cpp-httplib"),
    "libpqxx": ("libpqxx", "libpqxx"),
    "libpq": (None, None),  # libpqxx brings it
    "Threads": (None, None),
    "PkgConfig": (None, None),
    "PostgreSQL": (None, None),
}


def fail(what):
    sys.exit("FAILED: " + what)


def check(sound, what):
    if not sound:
        fail(what)


def read(*path):
    with open(os.path.join(SOURCE, *path), encoding="utf-8") as file:
        return file.read()


def looked_for():
    """What the CMake files of library and tool look for."""
    found = set()
    for folder in ("dmm", "engine"):
        for place, _, names in os.walk(os.path.join(SOURCE, folder)):
            if "CMakeLists.txt" not in names:
                continue
            text = read(os.path.relpath(place, SOURCE), "CMakeLists.txt")
            found.update(re.findall(r"find_package\((\w+)", text))
            for modules in re.findall(r"pkg_check_modules\(\w+ ([^)]*)\)", text):
                words = [w for w in modules.split() if w not in ("REQUIRED", "IMPORTED_TARGET", "QUIET")]
                found.update(re.split(r"[<>=]", word)[0] for word in words)
    return found


def vcpkg_names():
    manifest = json.loads(read("dmm", "packages", "vcpkg.json"))
    check(not [key for key in manifest if key.startswith("version")],
          "vcpkg.json has a version; it belongs into CMakeLists.txt only")
    features = manifest["features"]
    for feature in manifest["default-features"]:
        check(feature in features, f"vcpkg.json: there is no feature {feature}")
    names = set(manifest["dependencies"])
    for name, feature in features.items():
        if name != "tests":
            names.update(feature["dependencies"])
    return names


class Recipe:
    """As much of Conan's ConanFile as the recipe uses."""

    def __init__(self):
        self.required = []
        self.recipe_folder = os.path.join(SOURCE, "dmm", "packages")
        self.export_sources_folder = os.path.join(SCRATCH, "exported")
        self.options = types.SimpleNamespace(**{name: True for name in type(self).options})

    def requires(self, reference):
        self.required.append(reference.split("/")[0])


class Toolchain:
    def __init__(self, recipe):
        self.cache_variables = {}
        recipe.toolchain = self

    def generate(self):
        pass


class Nothing:
    def __init__(self, *_):
        pass

    def __getattr__(self, _):
        return lambda *a, **k: None


def copy(_, pattern, source, target):
    """As conan.tools.files.copy: a pattern of the path below the folder, in which * takes a /, too."""
    count = 0
    for place, folders, names in os.walk(source):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "build"]
        for name in names:
            path = os.path.relpath(os.path.join(place, name), source)
            if fnmatch.fnmatch(path, pattern):
                os.makedirs(os.path.dirname(os.path.join(target, path)), exist_ok=True)
                shutil.copy(os.path.join(source, path), os.path.join(target, path))
                count += 1
    check(count > 0, f"conanfile.py exports {pattern}, and there is none")


def load_recipe():
    def load(_, path):
        with open(path, encoding="utf-8") as file:
            return file.read()

    parts = {
        "conan": {"ConanFile": Recipe},
        "conan.tools": {},
        "conan.tools.cmake": {"CMake": Nothing, "CMakeToolchain": Toolchain,
                              "cmake_layout": lambda *_: None},
        "conan.tools.files": {"copy": copy, "load": load},
        "conan.tools.gnu": {"PkgConfigDeps": Nothing},
    }
    for name, members in parts.items():
        module = types.ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module
    path = os.path.join(SOURCE, "dmm", "packages", "conanfile.py")
    spec = importlib.util.spec_from_file_location("conanfile", path)
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(module)
    return module.Dmm()


def configure(recipe):
    arguments = [CMAKE, "-S", recipe.export_sources_folder, "-B", os.path.join(SCRATCH, "build"),
                 "-G", GENERATOR]
    for name, value in recipe.toolchain.cache_variables.items():
        arguments.append(f"-D{name}={'ON' if value else 'OFF'}")
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    check(done.returncode == 0, "what the recipe exports cannot be configured:\n" +
          done.stdout.decode(errors="replace"))


def check_container():
    text = read("dmm", "service", "share", "Containerfile")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    lines = re.sub(r"\\\n", " ", text).strip().split("\n")
    known = {"FROM", "ARG", "RUN", "COPY", "USER", "ENV", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL",
             "ENTRYPOINT"}
    port = re.search(r"EXPOSE (\d+)", text).group(1)
    default = re.search(r'"127.0.0.1:(\d+)"', read("dmm", "service", "configure.cc")).group(1)
    check(port == default and f"DMM_HTTP=0.0.0.0:{port}" in text and f":{port}/livez" in text,
          "the container file speaks of another port than services")
    for line in filter(None, lines):
        word, _, rest = line.partition(" ")
        check(word in known, f"the container file has an unknown instruction {word}")
        if word == "RUN":
            done = subprocess.run(["sh", "-n"], input=rest.encode(), stderr=subprocess.PIPE, check=False)
            check(done.returncode == 0, f"the shell cannot read {rest}: {done.stderr.decode()}")
    check(re.search(r"pkg-config --cflags --libs dmm-service\b", text), "it builds by another package")
    check(lines[0].startswith("FROM docker.io/library/debian:bookworm"), "it is not Debian 12")
    user = re.search(r"^USER (\d+)", text, flags=re.M)
    check(user and int(user.group(1)) > 0, "the container file runs as root")


shutil.rmtree(SCRATCH, ignore_errors=True)
os.makedirs(SCRATCH)

wanted = looked_for()
for name in wanted:
    check(name in LIBRARIES, f"CMake looks for {name}, which neither vcpkg.json nor conanfile.py has")
for name in LIBRARIES:
    check(name in wanted or LIBRARIES[name] == (None, None), f"nothing looks for {name} any more")
vcpkg = {LIBRARIES[name][0] for name in wanted} - {None}
check(vcpkg_names() == vcpkg, f"vcpkg.json names {sorted(vcpkg_names())}, and {sorted(vcpkg)} are needed")

dmm = load_recipe()
dmm.set_version()
check(dmm.version == VERSION, f"conanfile.py says version {dmm.version}, CMakeLists.txt {VERSION}")
dmm.requirements()
conan = {LIBRARIES[name][1] for name in wanted} - {None}
check(set(dmm.required) == conan, f"conanfile.py requires {sorted(dmm.required)}, not {sorted(conan)}")
dmm.export_sources()
dmm.generate()
configure(dmm)
check_container()
print("the manifests say what is needed")
