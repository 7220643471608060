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
    EXPECT_TRUE(says(message, "t.yaml:4: network.mode = 'isolatd'")) << message;
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

TEST(Template, MemoryFilesAreEncryptedUnlessItSaysOtherwise) {
    const std::string smallest = "name: t\nimage: i\nmemory: 128Mi\n";
    EXPECT_EQ(parse_template(smallest, "t.yaml").encryption, Encryption::memory);
    EXPECT_EQ(parse_template(smallest + "encryption: all\n", "t.yaml").encryption, Encryption::all);
    EXPECT_EQ(parse_template(smallest + "encryption: \"off\"\n", "t.yaml").encryption, Encryption::off);
    EXPECT_THROW(parse_template(smallest + "encryption: disk\n", "t.yaml"), Error);
}

TEST(Template, TheSchemaHasEveryFieldAndWhatIsRequired) {
    auto schema = nlohmann::json::parse(template_json_schema());
    EXPECT_EQ(schema["required"], nlohmann::json::array({"name"}));
    EXPECT_EQ(schema["if"]["required"], nlohmann::json::array({"extends"}));
    EXPECT_EQ(schema["else"]["required"], (nlohmann::json{"name", "image", "memory"}));
    EXPECT_EQ(schema["additionalProperties"], false);
    EXPECT_EQ(schema["properties"].size(), 28u);
}

TEST(Template, ANetworkIsAModeOrAMapping) {
    auto network = [](const std::string& yaml) {
        auto value = parse_template(smallest + yaml, "t.yaml");
        return std::string(name_of(value.network)) + "/" + value.bridge;
    };
    EXPECT_EQ(network(""), "isolated/");
    EXPECT_EQ(network("network:\n"), "isolated/");
    EXPECT_EQ(network("network: internet\n"), "internet/");
    EXPECT_EQ(network("network: {mode: none}\n"), "none/");
    EXPECT_EQ(network("network: {mode: bridge, bridge: br-lab.1}\n"), "bridge/br-lab.1");
}

TEST(Template, AWrongNetworkIsRefused) {
    struct Row {
        const char* yaml;
        const char* told;
    };
    const Row rows[] = {
        {"network: internt\n", "did you mean 'internet'?"},
        {"network: {mod: internet}\n", "did you mean 'network.mode'?"},
        {"network: [internet]\n", "a mode, or a mapping of mode, bridge"},
        {"network: true\n", "a mode, or a mapping of mode, bridge"},
        {"network: bridge\n", "network.bridge: it is missing"},
        {"network: {mode: bridge, bridge: 'br0,fd=3'}\n", "network.bridge = 'br0,fd=3'"},
        {"network: {mode: bridge, bridge: a234567890123456}\n", "network.bridge = 'a234567890123456'"},
        {"network: {mode: internet, bridge: br0}\n", "only the mode bridge has one, and the mode is internet"},
        {"network: none\nnetwork: internet\n", "the key is there twice"},
    };
    for (const auto& row : rows) {
        auto message = message_of(smallest + std::string(row.yaml));
        EXPECT_TRUE(says(message, row.told)) << row.yaml << message;
    }
}

TEST(Template, ANetworkIsInheritedKeyByKey) {
    TemplateDocument parent{"parent.yaml", smallest + std::string("network: {mode: bridge, bridge: br0}\n")};
    auto with = [&](const std::string& yaml) {
        TemplateDocument child{"child.yaml", "extends: t\nname: child\n" + yaml};
        auto value = parse_templates({parent, child}).at("child");
        return std::string(name_of(value.network)) + "/" + value.bridge;
    };
    EXPECT_EQ(with(""), "bridge/br0");
    EXPECT_EQ(with("network: {bridge: br1}\n"), "bridge/br1");
    EXPECT_EQ(with("network: {mode: isolated, bridge: ''}\n"), "isolated/");
}

TEST(Template, ExtendsTakesWhatTheDocumentDoesNotSay) {
    auto value = parse_template("extends: windows-11\nname: mine\nmemory: 8Gi\ntpm: false\n", "t.yaml");
    const auto& parent = builtin_templates().at("windows-11");
    EXPECT_EQ(value.name, "mine");
    EXPECT_EQ(value.memory.to_string(), "8Gi");
    EXPECT_FALSE(value.tpm);
    EXPECT_EQ(value.image, parent.image);
    EXPECT_EQ(value.firmware, Firmware::secure_boot);
    EXPECT_EQ(value.enlightenments, parent.enlightenments);
    EXPECT_EQ(value.disk_size, parent.disk_size);
}

TEST(Template, AFamilyIsReadInAnyOrderAndSectionsAreTakenKeyByKey) {
    std::vector<TemplateDocument> documents{
        {"c.yaml", "extends: b\nname: c\nrestart: {max_attempts: 9}\nchannels: []\n"},
        {"b.yaml", "extends: a\nname: b\nrestart: {policy: on_failure, backoff: 7s}\n"},
        {"a.yaml", smallest + "restart: {max_attempts: 5}\n"}};
    documents[2].yaml.replace(0, 7, "name: a");
    auto templates = parse_templates(documents);
    const auto& value = templates.at("c");
    EXPECT_EQ(value.image, "i");
    EXPECT_EQ(value.restart.policy, RestartPolicy::on_failure);
    EXPECT_EQ(value.restart.backoff, std::chrono::seconds(7));
    EXPECT_EQ(value.restart.max_attempts, 9u);
    EXPECT_TRUE(value.channels.empty());
    EXPECT_TRUE(templates.contains("windows-server-2025"));
}

TEST(Template, ADocumentMayReplaceABuiltInOneAndBuildOnIt) {
    auto templates = parse_templates({{"t.yaml", "extends: linux-tiny\nname: linux-tiny\nmemory: 256Mi\n"}});
    EXPECT_EQ(templates.at("linux-tiny").memory.to_string(), "256Mi");
    EXPECT_EQ(templates.at("linux-tiny").channels, (std::vector<std::string>{"agent", "display"}));
}

TEST(Template, AWrongFamilyIsRefused) {
    EXPECT_TRUE(
        says(message_of("extends: windows-12\nname: t\n"), "t.yaml:1: extends = 'windows-12': there is no such"));
    EXPECT_TRUE(says(message_of("extends: [a]\nname: t\n"), "extends"));
    EXPECT_TRUE(says(message_of("extends: windows-11\n"), "name: it is missing"));
    for (const std::vector<TemplateDocument>& circle :
         {std::vector<TemplateDocument>{{"a", "extends: b\nname: a\n"}, {"b", "extends: a\nname: b\n"}},
          std::vector<TemplateDocument>{{"a", "extends: a\nname: a\n"}}}) {
        try {
            parse_templates(circle);
            ADD_FAILURE() << "a circle was accepted";
        } catch (const Error& error) {
            EXPECT_TRUE(says(error.message(), "it extends itself")) << error.message();
        }
    }
    try {
        parse_templates({{"a", "name: a\nimage: [\n"}, {"b", "extends: a\nname: b\n"}});
        ADD_FAILURE() << "a broken ancestor was accepted";
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
    }
}

TEST(Template, EnlightenmentsAndFirmwareGoTogetherOrAreRefused) {
    EXPECT_TRUE(says(message_of(smallest + "enlightenments: [stimer]\n"), "it needs synic"));
    EXPECT_TRUE(says(message_of(smallest + "enlightenments: [synic]\n"), "it needs vpindex"));
    EXPECT_TRUE(says(message_of(smallest + "enlightenments: [evil]\n"), "enlightenments"));
    EXPECT_TRUE(says(message_of(smallest + "enlightenments: ['relaxed,kvm=off']\n"), "enlightenments"));
    EXPECT_TRUE(says(message_of(smallest + "firmware: secure_boot\nmachine: pc-i440fx-7.2\n"), "a q35 machine"));
    EXPECT_TRUE(says(message_of(smallest + "firmware: secureboot\n"), "did you mean 'secure_boot'?"));
    EXPECT_TRUE(says(message_of(smallest + "clock: local\n"), "clock"));
}

TEST(Template, TheWindowsOnesDifferAsTheirRequirementsDo) {
    const auto& all = builtin_templates();
    for (const char* name : {"windows-11", "windows-10", "windows-server-2022", "windows-server-2025"}) {
        ASSERT_TRUE(all.contains(name)) << name;
        const auto& value = all.at(name);
        EXPECT_EQ(value.name, name);
        EXPECT_EQ(value.image, name);
        EXPECT_EQ(value.os, "windows");
        EXPECT_EQ(value.firmware, Firmware::secure_boot);
        EXPECT_EQ(value.clock, ClockBase::localtime);
        EXPECT_EQ(value.enlightenments, hyperv_enlightenments());
        EXPECT_EQ(value.tpm, std::string(name) != "windows-10");
    }
    EXPECT_EQ(all.at("windows-11").memory.to_string(), "4Gi");
    EXPECT_EQ(all.at("windows-10").memory.to_string(), "2Gi");
    EXPECT_EQ(all.at("linux-desktop").image, "linux-desktop");
    EXPECT_EQ(all.at("linux-server").firmware, Firmware::bios);
}

TEST(VmNames, OfFirmwareAndClocksRoundTrip) {
    for (auto firmware : {Firmware::bios, Firmware::uefi, Firmware::secure_boot})
        EXPECT_EQ(parse_firmware(name_of(firmware)), firmware);
    for (auto base : {ClockBase::utc, ClockBase::localtime}) EXPECT_EQ(parse_clock_base(name_of(base)), base);
    EXPECT_THROW(parse_firmware("efi"), Error);
    EXPECT_THROW(parse_clock_base(""), Error);
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
