#include "dmm/service/service.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "dmm/service/configure.h"
#include "dmm/service/running.h"
#include "engine/version.h"

namespace dmm {

struct Service::Impl {
  service::Description description;
  service::Options options = service::standard_options();
  service::Hooks hooks;

  ServiceConfig read(const std::vector<std::string>& arguments, service::Options& into) const {
    into = options;
    service::take_all(into, arguments, [](const char* name) { return std::getenv(name); });
    return service::config_of(into);
  }
  int run(const std::vector<std::string>& arguments, const Setup& setup);
  int tell(const std::vector<std::string>& arguments) const;
};

namespace {

Logger logger_of(const ServiceConfig& config, const service::Options& options,
                 const std::string& name) {
  const bool people = options.at("log-format").value == "auto" && ::isatty(STDERR_FILENO) == 1;
  if (people) return Logger::standard(config.log_level);
  return Logger::json(config.log_level).with({{"service", name}});
}

void complain(const std::string& name, const Error& error) {
  fmt::print(stderr, "{}: {}: {}\n  {}\n", name, error.code().id, error.message(), error.remedy());
}

}  // namespace

Service::Service(std::string name) : impl_(std::make_unique<Impl>()) {
  impl_->description.name = std::move(name);
}

Service::~Service() = default;

Service& Service::about(std::string text) {
  impl_->description.about = std::move(text);
  return *this;
}

Service& Service::example(std::string call, std::string what) {
  impl_->description.examples.emplace_back(std::move(call), std::move(what));
  return *this;
}

Service& Service::option(ServiceOption option) {
  impl_->options.add(service::own_option(option));
  return *this;
}

Service& Service::set_default(const std::string& option, std::string value) {
  impl_->options.at(option).value = std::move(value);
  return *this;
}

Service& Service::on_reload(std::function<void(const ServiceConfig& config)> hook) {
  impl_->hooks.reloaded = std::move(hook);
  return *this;
}

Service& Service::beside(Beside work) {
  impl_->hooks.beside.push_back(std::move(work));
  return *this;
}

Service& Service::at_end(std::function<void(Bucket& bucket)> hook) {
  impl_->hooks.at_end = std::move(hook);
  return *this;
}

int Service::Impl::run(const std::vector<std::string>& arguments, const Setup& setup) {
  service::Options given;
  ServiceConfig config = read(arguments, given);
  if (given.at("show-config").value == "true") {
    fmt::print("{}", service::show(given));
    return service::exit_code::ok;
  }
  config.log = logger_of(config, given, description.name);
  service::Hooks all = hooks;
  all.setup = setup;
  all.reload = [this, arguments, log = config.log] {
    service::Options again;
    ServiceConfig now = read(arguments, again);
    now.log = log;
    return now;
  };
  const bool http_optional = given.at("http").origin == service::Origin::standard;
  return service::Running(description.name, std::move(config), std::move(all), http_optional).run();
}

/// For options that are answered before anything else is looked at; -1 if there is none.
int Service::Impl::tell(const std::vector<std::string>& arguments) const {
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") {
      fmt::print("{}", service::help(description, options));
      return service::exit_code::ok;
    }
    if (argument == "--version") {
      fmt::print("{} with dmm {}\n", description.name, engine::version());
      return service::exit_code::ok;
    }
  }
  return -1;
}

int Service::run(int argc, char** argv, const Setup& setup) noexcept {
  const std::string& name = impl_->description.name;
  try {
    const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    if (const int told = impl_->tell(arguments); told >= 0) return told;
    return impl_->run(arguments, setup);
  } catch (const Error& error) {
    complain(name, error);
    return error.kind() == Kind::invalid ? service::exit_code::usage : service::exit_code::failed;
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", name, e.what());
  }
  return service::exit_code::failed;
}

}  // namespace dmm
