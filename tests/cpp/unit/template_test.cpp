#include <infrastructure_sdk/vm/template.hpp>

#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

const std::string smallest = "name: t\nimage: i\nmemory: 128Mi\n";

std::string message_of(const std::string& yaml) {
    try {
        parse_template(yaml, "t.yaml");
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return {};
}

bool says(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

TEST(Template, TheSmallestDocumentTakesTheDefaults) {
    auto value = parse_template(smallest, "t.yaml");
    EXPECT_EQ(value.name, "t");
    EXPECT_EQ(value.image, "i");
    EXPECT_EQ(value.os, "linux");
    EXPECT_EQ(value.machine, "pc-q35-7.2");
    EXPECT_EQ(value.cpu.to_string(), "1");
    EXPECT_EQ(value.memory.to_string(), "128Mi");
    EXPECT_EQ(value.disk_size.milli(), 0);
    EXPECT_TRUE(value.display);
    EXPECT_EQ(value.network, NetworkMode::isolated);
    EXPECT_EQ(value.channels, std::vector<std::string>{"agent"});
    EXPECT_EQ(value.boot_timeout, std::chrono::seconds(60));
    EXPECT_EQ(value.isolation, IsolationGate::report);
}

TEST(Template, TheSchemasDefaultsAreTheDefaultsOfAnEmptyTemplate) {
    auto schema = nlohmann::json::parse(template_json_schema());
    std::string yaml = smallest;
    for (const auto& [name, property] : schema["properties"].items())
        if (property.contains("default")) yaml += name + ": " + property["default"].dump() + "\n";
    auto spelled_out = parse_template(yaml, "t.yaml");
    auto left_out = parse_template(smallest, "t.yaml");
    EXPECT_EQ(spelled_out.os, left_out.os);
    EXPECT_EQ(spelled_out.machine, left_out.machine);
    EXPECT_EQ(spelled_out.cpu, left_out.cpu);
    EXPECT_EQ(spelled_out.display, left_out.display);
    EXPECT_EQ(spelled_out.network, left_out.network);
    EXPECT_EQ(spelled_out.channels, left_out.channels);
    EXPECT_EQ(spelled_out.boot_timeout, left_out.boot_timeout);
    EXPECT_EQ(spelled_out.isolation, left_out.isolation);
}

TEST(Template, PricesAreExactAndBounded) {
    auto value =
        parse_template(smallest + "price_per_hour: \"0.50\"\ngpu_price_per_hour: \"99999.999999\"\n", "t.yaml");
    EXPECT_EQ(value.price_per_hour_micros, 500'000);
    EXPECT_EQ(value.gpu_price_per_hour_micros, 99'999'999'999);
    EXPECT_EQ(parse_template(smallest, "t.yaml").price_per_hour_micros, 0);
    for (const char* text : {"0.5", "\"-1\"", "\"0.0000001\"", "\"100000\"", "\"1e3\"", "\"$1\"", "free"})
        EXPECT_TRUE(says(message_of(smallest + "price_per_hour: " + text + "\n"), "t.yaml:4: price_per_hour")) << text;
}

TEST(Template, EveryFieldIsRead) {
    auto value = parse_template(
        "name: big\ndescription: A desktop\nos: windows\nimage: win-11\nmachine: pc-q35-8.0\ncpu: 2.5\nmemory: 4Gi\n"
        "disk_size: 50Gi\ndisplay: false\nnetwork: none\nchannels: []\nboot_timeout: 2m\nisolation: isolated\n",
        "t.yaml");
    EXPECT_EQ(value.description, "A desktop");
    EXPECT_EQ(value.os, "windows");
    EXPECT_EQ(value.machine, "pc-q35-8.0");
    EXPECT_EQ(value.cpu.milli(), 2500);
    EXPECT_EQ(value.disk_size.value(), 50ll << 30);
    EXPECT_FALSE(value.display);
    EXPECT_EQ(value.network, NetworkMode::none);
    EXPECT_TRUE(value.channels.empty());
    EXPECT_EQ(value.boot_timeout, std::chrono::minutes(2));
    EXPECT_EQ(value.isolation, IsolationGate::isolated);
}

TEST(Template, AllProblemsComeAtOnceWithTheirLines) {
    auto message = message_of(
        "name: Bad Name\n"
        "memori: 128Mi\n"
        "cpu: 0\n"
        "network: isolatd\n"
        "channels: [agent, displai]\n"
        "boot_timeout: -1s\n"
        "display: yes\n"
        "os: linux\n"
        "os: linux\n");
    EXPECT_TRUE(says(message, "t.yaml:1: name = 'Bad Name'")) << message;
    EXPECT_TRUE(says(message, "t.yaml:2: memori: there is no such key; did you mean 'memory'?")) << message;
    EXPECT_TRUE(says(message, "t.yaml:3: cpu = '0': it is less than 1m")) << message;
    EXPECT_TRUE(says(message, "t.yaml:4: network = 'isolatd'")) << message;
    EXPECT_TRUE(says(message, "did you mean 'isolated'?")) << message;
    EXPECT_TRUE(says(message, "t.yaml:5: channels")) << message;
    EXPECT_TRUE(says(message, "t.yaml:6: boot_timeout = '-1s': it is negative")) << message;
    EXPECT_TRUE(says(message, "t.yaml:7: display = 'yes'")) << message;
    EXPECT_TRUE(says(message, "t.yaml:9: os: the key is there twice")) << message;
    EXPECT_TRUE(says(message, "t.yaml: image: it is missing")) << message;
    EXPECT_TRUE(says(message, "t.yaml: memory: it is missing")) << message;
    EXPECT_TRUE(message.starts_with("10 problems in the template t.yaml:")) << message;
}

TEST(Template, NothingReachesQemusCommandLineAsAnotherOption) {
    for (const char* line :
         {"machine: pc,accel=kvm\n", "machine: 'pc q35'\n", "machine: -pc\n", "machine: \"pc\\n\"\n"})
        EXPECT_TRUE(says(message_of(smallest + line), "machine")) << line;
    EXPECT_NE(message_of("name: ../t\nimage: i\nmemory: 1Gi\n"), "");
    EXPECT_NE(message_of("name: t\nimage: a/b\nmemory: 1Gi\n"), "");
}

TEST(Template, ADisplayChannelNeedsADisplay) {
    EXPECT_TRUE(says(message_of(smallest + "display: false\nchannels: [display]\n"), "channels"));
}

TEST(Template, AnythingButOneMappingIsRefused) {
    EXPECT_TRUE(says(message_of(""), "the document is nothing"));
    EXPECT_TRUE(says(message_of("- a\n"), "the document is a list"));
    EXPECT_NE(message_of(smallest + "---\n" + smallest), "");
    EXPECT_TRUE(says(message_of("name: &a t\nimage: *a\nmemory: 1Gi\n"), "t.yaml:2: aliases are not allowed"));
    EXPECT_NE(message_of("name: t\n  image: [\n"), "");
}

TEST(Template, NullMeansTheDefaultButNotForWhatIsRequired) {
    EXPECT_EQ(parse_template(smallest + "os:\n", "t").os, "linux");
    EXPECT_TRUE(says(message_of("name: t\nimage:\nmemory: ''\n"), "image: it is missing"));
    EXPECT_TRUE(says(message_of("name: t\nimage:\nmemory: ''\n"), "memory: it is missing"));
}

TEST(Template, TheBuiltInOnesParse) {
    ASSERT_TRUE(builtin_templates().contains("linux-tiny"));
    const auto& tiny = builtin_templates().at("linux-tiny");
    EXPECT_EQ(tiny.image, "linux-tiny");
    EXPECT_EQ(tiny.memory.to_string(), "128Mi");
    EXPECT_EQ(tiny.channels, (std::vector<std::string>{"agent", "display"}));
}

TEST(Template, TheSchemaHasEveryFieldAndWhatIsRequired) {
    auto schema = nlohmann::json::parse(template_json_schema());
    EXPECT_EQ(schema["required"], (nlohmann::json{"name", "image", "memory"}));
    EXPECT_EQ(schema["additionalProperties"], false);
    EXPECT_EQ(schema["properties"].size(), 14u);
}

TEST(VmNames, RoundTripAndUnknownOnesAreRefused) {
    std::set<std::string> names;
    for (int i = 0; i < 12; ++i) {
        auto state = static_cast<VmState>(i);
        EXPECT_EQ(parse_vm_state(name_of(state)), state);
        names.insert(name_of(state));
    }
    EXPECT_EQ(names.size(), 12u);
    EXPECT_THROW(parse_vm_state("runing"), Error);
    EXPECT_STREQ(name_of(NetworkMode::none), "none");
    EXPECT_STREQ(name_of(NetworkMode::isolated), "isolated");
}

}  // namespace
}  // namespace infrastructure_sdk
