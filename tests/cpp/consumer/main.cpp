// A project of its own that found the library by find_package: parses, plans, runs a task, fails clearly.
#include <cstdio>
#include <stdexcept>
#include <string>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/sdk.hpp>
#include <infrastructure_sdk/version.hpp>

namespace isdk = infrastructure_sdk;

static void expect(bool condition, const char* what) {
    if (!condition) throw std::runtime_error(what);
}

int main() {
    expect(isdk::version() == std::string("0.1.0"), "version");
    expect(isdk::Quantity::parse("1.5Gi").value() == 1610612736, "quantity");
    expect(isdk::parse_duration("1h30m") == std::chrono::minutes(90), "duration");
    expect(isdk::builtin_templates().contains("linux-tiny"), "templates");
    isdk::Runtime runtime(isdk::make_null_sink());
    auto config = isdk::Config::from_json(R"({"providers": {"qemu_binary": "no-such-qemu"},
                                              "store": {"state_directory": "consumer-state"}})");
    try {
        isdk::run(runtime, isdk::InfrastructureSDK::open(runtime.environment(), config));
        throw std::runtime_error("opening without QEMU must fail");
    } catch (const isdk::Error& error) {
        expect(error.errc() == isdk::Errc::provider, error.what());
    }
    std::puts("consumer: ok");
}
