"""dmm as a Conan package: `conan create dmm/packages` in the source tree."""

import os
import re

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load
from conan.tools.gnu import PkgConfigDeps

TOP = os.path.join("..", "..")


class Dmm(ConanFile):
    name = "dmm"
    description = "Durable Materialization Machine: keeps reality equal to what was declared"
    settings = "os", "arch", "compiler", "build_type"
    options = {"cli": [True, False], "service": [True, False], "postgres": [True, False]}
    default_options = {"cli": True, "service": True, "postgres": False}

    def set_version(self):
        text = load(self, os.path.join(self.recipe_folder, TOP, "CMakeLists.txt"))
        self.version = re.search(r"project\(dmm VERSION ([0-9.]+)", text).group(1)

    def export_sources(self):
        top = os.path.join(self.recipe_folder, TOP)
        for pattern in ("CMakeLists.txt", "LICENSE", "dmm/*", "engine/*"):
            copy(self, pattern, top, self.export_sources_folder)

    def requirements(self):
        for library in ("cnats/[>=3.4]", "fmt/[>=9 <10]", "nlohmann_json/[>=3.11]", "openssl/[>=3]",
                        "simdjson/[>=3]", "tomlplusplus/[>=3.3]"):
            self.requires(library)
        if self.options.service:
            self.requires("cpp-httplib/[>=0.11]")
        if self.options.service or self.options.cli:
            self.requires("yaml-cpp/[>=0.7]")
        if self.options.cli:
            self.requires("cli11/[>=2.1]")
        if self.options.postgres:
            self.requires("libpqxx/[>=6 <7]")

    def layout(self):
        cmake_layout(self)

    def generate(self):
        # By pkg-config, as everywhere; the file of NATS is called libnats there.
        dependencies = PkgConfigDeps(self)
        dependencies.generate()
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["DMM_BUILD_TESTS"] = False
        toolchain.cache_variables["DMM_BUILD_BENCH"] = False
        toolchain.cache_variables["DMM_BUILD_EXAMPLES"] = False
        toolchain.cache_variables["DMM_BUILD_CLI"] = bool(self.options.cli)
        toolchain.cache_variables["DMM_SERVICE"] = bool(self.options.service)
        toolchain.cache_variables["DMM_POSTGRES"] = bool(self.options.postgres)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")  # our own dmmConfig.cmake
        self.cpp_info.builddirs.append(os.path.join("lib", "cmake", "dmm"))
