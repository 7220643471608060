#include <infrastructure_sdk/config/config.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "config/config_access.hpp"

namespace infrastructure_sdk {
namespace fs = std::filesystem;
namespace {

class ConfigSources : public testing::Test {
protected:
    ConfigSources() {
        std::string pattern = (fs::temp_directory_path() / "config_sources.XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
    }
    ~ConfigSources() override { fs::remove_all(folder_); }

    std::string write(const std::string& name, const std::string& text) const {
        auto path = folder_ / name;
        std::ofstream(path, std::ios::binary) << text;
        return path.string();
    }

    std::vector<ConfigProblem> problems_of_file(const std::string& name, const std::string& text) const {
        auto path = write(name, text);
        try {
            Config::from_file(path);
        } catch (const ConfigError& error) {
            auto problems = error.problems();
            for (auto& problem : problems)
                if (problem.origin.starts_with(folder_.string()))
                    problem.origin = problem.origin.substr(folder_.string().size() + 1);
            return problems;
        }
        return {};
    }

    fs::path folder_;
};

struct Expected {
    const char* path;
    const char* origin;
    const char* did_you_mean;
};

void expect_problems(const std::vector<ConfigProblem>& problems, const std::vector<Expected>& expected) {
    ASSERT_EQ(problems.size(), expected.size()) << list_problems(problems);
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(problems[i].path, expected[i].path);
        EXPECT_EQ(problems[i].origin, expected[i].origin) << problems[i].path;
        EXPECT_EQ(problems[i].did_you_mean, expected[i].did_you_mean) << problems[i].path;
        EXPECT_FALSE(problems[i].message.empty()) << problems[i].path;
    }
}

TEST_F(ConfigSources, TheThreeFormatsSayTheSame) {
    auto yaml = Config::from_file(write("a.yaml",
                                        "# yaml-language-server: $schema=x\n"
                                        "vm:\n  accelerator: tcg\n  boot_timeout: 1m30s\n  translation_cache: 128Mi\n"
                                        "cost_optimization: {allow_spot: true}\n"
                                        "providers:\n  qemu_uid_base: 700000\n"));
    auto toml = Config::from_file(write("a.toml",
                                        "cost_optimization.allow_spot = true\n[providers]\nqemu_uid_base = 700_000\n"
                                        "[vm]\naccelerator = 'tcg'\nboot_timeout = '90s'\n"
                                        "translation_cache = '128Mi'\n"));
    auto json = Config::from_file(write("a.json",
                                        R"({"vm": {"accelerator": "tcg", "boot_timeout": "90s",
                                            "translation_cache": 134217728},
                                            "cost_optimization": {"allow_spot": true},
                                            "providers": {"qemu_uid_base": 700000}})"));
    EXPECT_EQ(yaml.to_json(), toml.to_json());
    EXPECT_EQ(yaml.to_json(), json.to_json());
    EXPECT_EQ(yaml.origin("vm.boot_timeout"), (folder_ / "a.yaml").string() + ":4");
    EXPECT_EQ(toml.origin("vm.boot_timeout"), (folder_ / "a.toml").string() + ":6");
    EXPECT_EQ(json.origin("vm.boot_timeout"), (folder_ / "a.json").string() + ":1");
    EXPECT_EQ(json.origin("vm.translation_cache"), (folder_ / "a.json").string() + ":2");
}

TEST_F(ConfigSources, YamlProblemsComeAllWithLineAndSuggestion) {
    expect_problems(problems_of_file("a.yaml",
                                     "vm:\n"
                                     "  boot_tmeout: 30s\n"
                                     "  accelerator: kvn\n"
                                     "  translation_cache: 1Gib\n"
                                     "sesion:\n"
                                     "  default_ttl: 1h\n"
                                     "logging:\n"
                                     "  level: on\n"
                                     "  level: info\n"
                                     "cost_optimization:\n"
                                     "  allow_spot: yes\n"),
                    {{"sesion", "a.yaml:5", "session"},
                     {"vm.boot_tmeout", "a.yaml:2", "vm.boot_timeout"},
                     {"vm.accelerator", "a.yaml:3", "kvm"},
                     {"vm.translation_cache", "a.yaml:4", ""},
                     {"logging.level", "a.yaml:9", ""},
                     {"logging.level", "a.yaml:8", ""},
                     {"cost_optimization.allow_spot", "a.yaml:11", ""}});
}

TEST_F(ConfigSources, TomlProblemsComeAllWithLineAndSuggestion) {
    expect_problems(problems_of_file("a.toml",
                                     "[vm]\n"
                                     "acelerator = 'kvm'\n"
                                     "boot_timeout = 30\n"
                                     "[session]\n"
                                     "default_ttl = 2026-11-24\n"
                                     "[providrs]\n"),
                    {{"providrs", "a.toml:6", "providers"},
                     {"session.default_ttl", "a.toml:5", ""},
                     {"vm.acelerator", "a.toml:2", "vm.accelerator"},
                     {"vm.boot_timeout", "a.toml:3", ""}});
}

TEST_F(ConfigSources, JsonProblemsComeAllWithLineAndSuggestion) {
    expect_problems(problems_of_file("a.json",
                                     "{\"vm\": {\n"
                                     "   \"accelerator\": \"kvn\",\n"
                                     "   \"accelerator\": \"kvm\",\n"
                                     "   \"boot_timeot\": \"1s\"},\n"
                                     " \"awss\": {}}"),
                    {{"awss", "a.json:5", "aws"},
                     {"vm.accelerator", "a.json:3", ""},
                     {"vm.boot_timeot", "a.json:4", "vm.boot_timeout"},
                     {"vm.accelerator", "a.json:2", "kvm"}});
}

TEST_F(ConfigSources, RepeatedTomlKeysAreErrors) {
    auto problems = problems_of_file("a.toml", "[vm]\naccelerator = 'kvm'\naccelerator = 'tcg'\n");
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_EQ(problems[0].origin, "a.toml:3");
}

TEST_F(ConfigSources, YamlAnchorsAndAliasesAreRefused) {
    std::string bomb = "x-a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
    for (char c = 'b'; c <= 'z'; ++c) {
        std::string before(1, static_cast<char>(c - 1));
        bomb += std::string("x-") + c + ": &" + c + " [";
        for (int i = 0; i < 9; ++i) bomb += (i ? ", *" : "*") + before;
        bomb += "]\n";
    }
    auto problems = problems_of_file("a.yaml", bomb);
    ASSERT_EQ(problems.size(), 101u);
    EXPECT_EQ(problems[0].message, "anchors are not allowed");
    EXPECT_EQ(problems[0].origin, "a.yaml:1");
    EXPECT_EQ(problems[2].message, "aliases are not allowed; write the value again");
    EXPECT_EQ(problems[100].message, "and 151 more problems");
}

TEST_F(ConfigSources, OddYamlIsRefusedWithItsLine) {
    EXPECT_EQ(problems_of_file("a.yaml", "vm:\n  accelerator: !!str kvm\n").at(0).message, "tags are not allowed");
    EXPECT_EQ(problems_of_file("a.yaml", "vm: {}\n---\nvm: {}\n").at(0).message, "only one YAML document is allowed");
    EXPECT_EQ(problems_of_file("a.yaml", "? [1, 2]\n: 3\n").at(0).message, "a key must be a text");
    EXPECT_EQ(problems_of_file("a.yaml", "vm:\n  ~: 3\n").at(0).message, "a key must be a text");
    EXPECT_EQ(problems_of_file("a.yaml", "vm: [\n").at(0).origin.substr(0, 6), "a.yaml");
    EXPECT_EQ(problems_of_file("a.yaml", "- vm\n").at(0).message, "the document is a list");
    EXPECT_EQ(problems_of_file("a.yaml", "").size(), 0u);
    EXPECT_EQ(problems_of_file("a.yaml", "# nothing\nvm:\n").size(), 0u);
}

TEST_F(ConfigSources, DeepAndLargeFilesAreRefused) {
    for (const char* name : {"a.yaml", "a.json", "a.toml"}) {
        std::string deep = std::string(name) == "a.toml" ? "x-a = " : "{\"x-a\": ";
        deep += std::string(200, '[') + std::string(200, ']') + (std::string(name) == "a.toml" ? "" : "}");
        EXPECT_FALSE(problems_of_file(name, deep).empty()) << name;
        auto large = problems_of_file(name, std::string((1u << 20) + 1, ' '));
        ASSERT_EQ(large.size(), 1u) << name;
        EXPECT_EQ(large[0].message, "it is larger than 1 MiB");
    }
    EXPECT_FALSE(problems_of_file("a.json", std::string(500000, '[')).empty());
}

TEST_F(ConfigSources, SyntaxErrorsShowNoValues) {
    for (const char* name : {"a.yaml", "a.json", "a.toml"})
        for (const char* text : {"{\"kubernetes\": {\"token\": \"s3cr3t-canary", "kubernetes.token = s3cr3t-canary",
                                 "kubernetes: {token: s3cr3t-canary: [}", "kubernetes.token = \"s3cr3t-canary",
                                 "kubernetes.token = 111222333444555666777888999"}) {
            auto all = list_problems(problems_of_file(name, text));
            EXPECT_NE(all, "") << name << text;
            EXPECT_EQ(all.find("s3cr3t"), std::string::npos) << all;
            EXPECT_EQ(all.find("111222"), std::string::npos) << all;
        }
}

TEST_F(ConfigSources, AMissingFileAndAnUnknownEndingAreNamed) {
    EXPECT_EQ(problems_of_file("a.ini", "").at(0).allowed, ".yaml, .yml, .toml, .json");
    try {
        Config::from_file((folder_ / "none.yaml").string());
        FAIL();
    } catch (const ConfigError& error) {
        EXPECT_EQ(error.problems().at(0).message, "there is no such file");
    }
    fs::create_directory(folder_ / "folder.yaml");
    EXPECT_THROW(Config::from_file((folder_ / "folder.yaml").string()), ConfigError);
}

TEST_F(ConfigSources, TheEnvironmentSetsFieldsByTheirTypes) {
    auto config = Config::from_environment({{"INFRA_SDK_VM__BOOT_TIMEOUT", "45s"},
                                            {"INFRA_SDK_COST_OPTIMIZATION__ALLOW_SPOT", "true"},
                                            {"INFRA_SDK_PROVIDERS__QEMU_UID_BASE", "700000"},
                                            {"INFRA_SDK_AWS__PROFILE", "123"},
                                            {"INFRA_SDK_TEST_IMAGE_DIR", "images"},
                                            {"PATH", "/bin"}});
    EXPECT_EQ(config.duration("vm.boot_timeout"), std::chrono::seconds(45));
    EXPECT_TRUE(config.boolean("cost_optimization.allow_spot"));
    EXPECT_EQ(config.integer("providers.qemu_uid_base"), 700000);
    EXPECT_EQ(config.text("aws.profile"), "123");
    EXPECT_EQ(config.origin("vm.boot_timeout"), "environment INFRA_SDK_VM__BOOT_TIMEOUT");
}

TEST_F(ConfigSources, UnknownAndWrongEnvironmentNamesAreErrors) {
    try {
        Config::from_environment({{"INFRA_SDK_KUBERNETES__TOKEN", "s3cr3t-canary"},
                                  {"INFRA_SDK_PROVIDERS__QEMU_UID_BASE", "many"},
                                  {"INFRA_SDK_VM_BOOT_TIMEOUT", "s3cr3t-canary"},
                                  {"INFRA_SDK_VM__ACCELERATOR", "KVM"}});
        FAIL();
    } catch (const ConfigError& error) {
        expect_problems(
            error.problems(),
            {{"kubernetes.token", "environment INFRA_SDK_KUBERNETES__TOKEN", ""},
             {"providers.qemu_uid_base", "environment INFRA_SDK_PROVIDERS__QEMU_UID_BASE", ""},
             {"INFRA_SDK_VM_BOOT_TIMEOUT", "environment INFRA_SDK_VM_BOOT_TIMEOUT", "INFRA_SDK_VM__BOOT_TIMEOUT"},
             {"vm.accelerator", "environment INFRA_SDK_VM__ACCELERATOR", ""}});
        EXPECT_EQ(error.message().find("s3cr3t"), std::string::npos);
    }
}

TEST_F(ConfigSources, DotenvUnderstandsQuotesCommentsAndExport) {
    auto path = write(".env",
                      "# comment\n"
                      "\n"
                      "export INFRA_SDK_VM__ACCELERATOR=tcg   # why\n"
                      "INFRA_SDK_AWS__PROFILE = 'it is # not $HOME a comment'\r\n"
                      "INFRA_SDK_KUBERNETES__CONTEXT=\"a \\\"b\\\" \\\\ c\" # tail\n"
                      "INFRA_SDK_PROVIDERS__QEMU_BINARY=qemu#1\n"
                      "INFRA_SDK_LOGGING__FILE=\n"
                      "OTHER=1\nOTHER=2\n");
    auto config = Config::from_dotenv(path);
    EXPECT_EQ(config.text("vm.accelerator"), "tcg");
    EXPECT_EQ(config.text("aws.profile"), "it is # not $HOME a comment");
    EXPECT_EQ(config.text("kubernetes.context"), "a \"b\" \\ c");
    EXPECT_EQ(config.text("providers.qemu_binary"), "qemu#1");
    EXPECT_EQ(config.text("logging.file"), "");
    EXPECT_TRUE(config.is_set("logging.file"));
    EXPECT_EQ(config.origin("aws.profile"), path + ":4");
}

TEST_F(ConfigSources, WrongDotenvLinesComeAllAtOnce) {
    ProblemList problems(".env");
    auto entries = parse_dotenv(
        "no equals sign\n"
        "1NAME=x\n"
        "INFRA_SDK_AWS__PROFILE='open\n"
        "INFRA_SDK_AWS__REGION=\"closed\" rest\n"
        "INFRA_SDK_VM__ACCELERATOR=kvm\n"
        "INFRA_SDK_VM__ACCELERATOR=tcg",
        problems);
    EXPECT_EQ(entries.size(), 1u);
    expect_problems(problems.take(), {{"", ".env:1", ""},
                                      {"", ".env:2", ""},
                                      {"INFRA_SDK_AWS__PROFILE", ".env:3", ""},
                                      {"INFRA_SDK_AWS__REGION", ".env:4", ""},
                                      {"INFRA_SDK_VM__ACCELERATOR", ".env:6", ""}});
}

TEST_F(ConfigSources, ASecretIsReadFromAFileOfItsOwnerOnly) {
    auto path = write("token", "s3cr3t\n");
    auto config = Config::from_json(R"({"kubernetes": {"token": "file:)" + path + R"("}})");
    ::chmod(path.c_str(), 0644);
    try {
        config.secret("kubernetes.token");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::configuration);
        EXPECT_NE(error.message().find("chmod 600"), std::string::npos);
    }
    ::chmod(path.c_str(), 0600);
    EXPECT_EQ(config.secret("kubernetes.token").reveal(), "s3cr3t");
    auto unset = Config::from_json(R"({"kubernetes": {"token": "env:NO_SUCH_TOKEN_VARIABLE"}})");
    EXPECT_THROW(unset.secret("kubernetes.token"), Error);
}

}  // namespace
}  // namespace infrastructure_sdk
