// The restart section of a template.

#include <infrastructure_sdk/vm/template.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {
namespace {

using namespace std::chrono_literals;

const std::string smallest = "name: t\nimage: i\nmemory: 128Mi\n";

std::string message_of(const std::string& yaml) {
    try {
        parse_template(smallest + yaml, "t.yaml");
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return {};
}

TEST(TemplateRestart, IsNeverByDefault) {
    for (const char* yaml : {"", "restart:\n", "restart: {}\n", "restart: {policy: never}\n"}) {
        auto rule = parse_template(smallest + yaml, "t.yaml").restart;
        EXPECT_EQ(rule.policy, RestartPolicy::never) << yaml;
        EXPECT_EQ(rule.max_attempts, 3u);
        EXPECT_EQ(rule.backoff, 5s);
        EXPECT_EQ(rule.window, 10min);
    }
}

TEST(TemplateRestart, IsReadWhole) {
    auto value =
        parse_template(smallest + "restart: {policy: on_failure, max_attempts: 7, backoff: 1m, window: 2h}\n", "t");
    EXPECT_EQ(value.restart.policy, RestartPolicy::on_failure);
    EXPECT_EQ(value.restart.max_attempts, 7u);
    EXPECT_EQ(value.restart.backoff, 1min);
    EXPECT_EQ(value.restart.window, 2h);
    nlohmann::json document = value;
    EXPECT_EQ(document["restart"]["policy"], "on_failure");
    EXPECT_EQ(document["restart"]["backoff"], "1m");
}

TEST(TemplateRestart, NamesWhatIsWrong) {
    auto says = [](const std::string& yaml, const std::string& part) {
        auto message = message_of(yaml);
        EXPECT_NE(message.find(part), std::string::npos) << yaml << message;
    };
    says("restart: {policy: allways}\n", "restart.policy = 'allways'");
    says("restart: {max_attempts: 0}\n", "restart.max_attempts = '0'");
    says("restart: {backof: 1s}\n", "did you mean 'restart.backoff'?");
    says("restart: on_failure\n", "a mapping of policy");
    says("restart: {}\nrestart: {}\n", "twice");
}

TEST(TemplateRestart, IsInTheSchema) {
    auto schema = nlohmann::json::parse(template_json_schema());
    const auto& restart = schema["properties"]["restart"]["properties"];
    EXPECT_EQ(restart["policy"]["enum"], (nlohmann::json{"never", "on_failure", nullptr}));
    EXPECT_EQ(restart["window"]["default"], "10m");
}

}  // namespace
}  // namespace infrastructure_sdk
