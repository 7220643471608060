#include <infrastructure_sdk/config/config.hpp>

#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "config/value.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

std::vector<ConfigProblem> problems_of(const std::string& document) {
    try {
        Config::from_json(document);
    } catch (const ConfigError& error) {
        return error.problems();
    }
    return {};
}

Node node(Node::Kind kind, std::string text) {
    Node result;
    result.kind = kind;
    result.text = std::move(text);
    return result;
}

TEST(ConfigTable, EveryDefaultAndBoundPassesItsOwnCheck) {
    for (const auto& field : config_fields()) {
        for (const char* text : {field.default_text, field.minimum, field.maximum}) {
            if (!*text) continue;
            bool bare = field.type == ConfigType::boolean || field.type == ConfigType::integer ||
                        field.type == ConfigType::number;
            auto value = bare                             ? plain_scalar(text, 0)
                         : field.type == ConfigType::list ? parse_json(text).root
                                                          : node(Node::Kind::text, text);
            EXPECT_EQ(check_value(field, value).problem, "") << field.path << " = " << text;
        }
        EXPECT_NE(std::string(field.doc), "") << field.path;
    }
}

TEST(ConfigTable, PathsAndEnvironmentNamesAreUnique) {
    std::set<std::string> paths, names;
    for (const auto& field : config_fields()) {
        EXPECT_TRUE(paths.insert(field.path).second) << field.path;
        EXPECT_TRUE(names.insert(environment_name(field)).second) << field.path;
    }
    EXPECT_TRUE(names.contains("INFRA_SDK_VM__BOOT_TIMEOUT"));
    EXPECT_TRUE(names.contains("INFRA_SDK_COST_OPTIMIZATION__ALLOW_SPOT"));
}

TEST(Config, DefaultsHaveTheirTypes) {
    Config config;
    EXPECT_EQ(config.text("providers.default"), "qemu");
    EXPECT_EQ(config.text("vm.accelerator"), "auto");
    EXPECT_EQ(config.text("store.state_directory"), "");
    EXPECT_EQ(config.quantity("vm.translation_cache").value(), 64 << 20);
    EXPECT_EQ(config.duration("session.default_ttl"), std::chrono::hours(8));
    EXPECT_EQ(config.duration("session.idle_timeout"), Duration::zero());
    EXPECT_EQ(config.integer("providers.qemu_uid_base"), 610000);
    EXPECT_FALSE(config.boolean("cost_optimization.allow_spot"));
    EXPECT_TRUE(config.secret("kubernetes.token").empty());
    EXPECT_FALSE(config.is_set("vm.accelerator"));
    EXPECT_EQ(config.origin("vm.accelerator"), "default");
}

TEST(Config, ReadsEverySection) {
    auto config = Config::from_json(R"({
        "kubernetes": {"context": "lab", "namespace": "desktops"}, "aws": {"region": "eu-central-1"},
        "vm": {"boot_timeout": "90s", "translation_cache": 33554432}, "isolation": {"gate": "isolated"},
        "cost_optimization": {"allow_spot": true, "budget_per_month": "250.50"}, "logging": {"level": "debug"},
        "session": {"default_ttl": "1h30m"}, "store": {"lock_timeout": "0s"},
        "providers": {"qemu_uid_base": 700000}})");
    EXPECT_EQ(config.text("kubernetes.namespace"), "desktops");
    EXPECT_EQ(config.duration("vm.boot_timeout"), std::chrono::seconds(90));
    EXPECT_EQ(config.quantity("vm.translation_cache").to_string(), "32Mi");
    EXPECT_TRUE(config.boolean("cost_optimization.allow_spot"));
    EXPECT_EQ(config.text("cost_optimization.budget_per_month"), "250.50");
    EXPECT_EQ(config.duration("store.lock_timeout"), Duration::zero());
    EXPECT_EQ(config.integer("providers.qemu_uid_base"), 700000);
    EXPECT_TRUE(config.is_set("session.default_ttl"));
    EXPECT_EQ(config.origin("session.default_ttl"), "argument");
}

TEST(Config, ReportsAllProblemsAtOnce) {
    auto problems = problems_of(R"({"vm": {"boot_tmeout": "5s", "accelerator": "kmv", "translation_cache": "8Mi"},
                                    "sesion": {}, "session": {"default_ttl": "-5s", "idle_timeout": 60},
                                    "logging": {"level": true}, "cost_optimization": {"budget_per_month": 12.5}})");
    ASSERT_EQ(problems.size(), 8u);
    std::map<std::string, ConfigProblem> by_path;
    for (const auto& problem : problems) {
        EXPECT_EQ(problem.origin, "argument") << problem.path;
        by_path[problem.path] = problem;
    }
    EXPECT_EQ(by_path["vm.boot_tmeout"].did_you_mean, "vm.boot_timeout");
    EXPECT_EQ(by_path["vm.accelerator"].did_you_mean, "kvm");
    EXPECT_EQ(by_path["vm.accelerator"].allowed, "one of auto, kvm, tcg");
    EXPECT_EQ(by_path["vm.translation_cache"].message, "it is less than 16Mi");
    EXPECT_EQ(by_path["sesion"].did_you_mean, "session");
    EXPECT_EQ(by_path["session.default_ttl"].message, "it is negative");
    EXPECT_EQ(by_path["session.idle_timeout"].message, "it has no unit");
    EXPECT_EQ(by_path["logging.level"].message, "it is a boolean; put it in quotes");
    EXPECT_EQ(by_path["cost_optimization.budget_per_month"].message, "it is a number; put it in quotes");
}

TEST(Config, TheErrorListsEachProblemOnItsLine) {
    try {
        Config::from_json(R"({"vm": {"boot_tmeout": "5s", "accelerator": "xen"}})");
        FAIL();
    } catch (const ConfigError& error) {
        EXPECT_EQ(error.errc(), Errc::configuration);
        EXPECT_EQ(error.context().at("field"), "vm.boot_tmeout");
        EXPECT_EQ(error.message(),
                  "2 problems in the configuration:\n"
                  "  argument: vm.boot_tmeout: there is no such key; did you mean 'vm.boot_timeout'?; allowed: "
                  "image_directory, template_directory, accelerator, translation_cache, fast_launch, encryption, "
                  "master_key, boot_timeout\n"
                  "  argument: vm.accelerator = 'xen': it is not one of the choices; allowed: one of auto, kvm, tcg");
    }
}

TEST(Config, PointsToTheSectionOfAMisplacedKey) {
    auto problems = problems_of(R"({"vm": {"default_ttl": "1h"}, "accelerator": "kvm"})");
    ASSERT_EQ(problems.size(), 2u);
    std::set<std::string> guesses{problems[0].did_you_mean, problems[1].did_you_mean};
    EXPECT_EQ(guesses, (std::set<std::string>{"session.default_ttl", "vm.accelerator"}));
}

TEST(Config, RepeatedKeysAndSectionsAreErrors) {
    auto problems = problems_of(R"({"vm": {"accelerator": "kvm", "accelerator": "tcg"}, "vm": {}})");
    ASSERT_EQ(problems.size(), 2u);
    for (const auto& problem : problems) EXPECT_EQ(problem.message, "the key is there twice");
}

TEST(Config, ExtensionKeysAndNullsAreSkipped) {
    auto config = Config::from_json(R"({"x-note": [1], "vm": {"x-team": {}, "accelerator": null}, "session": null})");
    EXPECT_FALSE(config.is_set("vm.accelerator"));
}

TEST(Config, WrongShapesAreNamed) {
    EXPECT_EQ(problems_of("[]").at(0).message, "the document is a list");
    EXPECT_EQ(problems_of("").size(), 1u);
    EXPECT_EQ(problems_of("null").size(), 1u);
    EXPECT_EQ(problems_of(R"({"vm": 5})").at(0).message, "it is an integer");
    EXPECT_EQ(problems_of(R"({"vm": {"accelerator": ["kvm"]}})").at(0).value, "[1 items]");
    EXPECT_EQ(problems_of(R"({"providers": {"qemu_binary": "a\nb"}})").at(0).message, "it has control characters");
    EXPECT_EQ(problems_of(R"({"vm": {"image_directory": "~/images"}})").size(), 1u);
    EXPECT_EQ(problems_of(R"({"providers": {"qemu_binary": ""}})").size(), 1u);
    EXPECT_EQ(problems_of(R"({"providers": {"qemu_uid_base": 99999999999999999999}})").size(), 1u);
}

TEST(Config, SecretsAreTakenByReferenceAndNeverShown) {
    const std::string canary = "s3cr3t-canary";
    for (const char* document : {R"({"kubernetes": {"token": "s3cr3t-canary"}})",    // by value
                                 R"({"kubernetes": {"tokn": "s3cr3t-canary"}})",     // misspelt
                                 R"({"kubernetes": "s3cr3t-canary"})",               // one level too high
                                 R"({"kubernetes": {"token": ["s3cr3t-canary"]}})",  // of the wrong type
                                 R"({"kubernetes": {"token": s3cr3t-canary}})"}) {   // not JSON
        try {
            Config::from_json(document);
            ADD_FAILURE() << document;
        } catch (const ConfigError& error) {
            EXPECT_EQ(error.message().find(canary), std::string::npos) << error.message();
            for (const auto& problem : error.problems())
                EXPECT_EQ((problem.value + problem.message + problem.allowed).find(canary), std::string::npos);
        }
    }
    auto config = Config::from_json(R"({"kubernetes": {"token": "env:SOME_TOKEN"}})");
    EXPECT_EQ(json::parse(config.to_json())["kubernetes"]["token"], "***");
}

TEST(Config, CrossSectionRulesNameBothFields) {
    auto problems = problems_of(R"({"session": {"maximum_ttl": "1h", "default_ttl": "2h", "idle_timeout": "3h"}})");
    ASSERT_EQ(problems.size(), 2u);
    EXPECT_EQ(problems[0].path, "session.default_ttl");
    EXPECT_EQ(problems[0].allowed, "at most session.maximum_ttl (1h, argument)");
    EXPECT_NE(problems[0].message.find("session.maximum_ttl"), std::string::npos);
    EXPECT_EQ(problems[1].path, "session.idle_timeout");
}

TEST(Config, LaterLayersWinAndKeepTheirOrigin) {
    auto lower = Config::from_json(R"({"vm": {"accelerator": "kvm", "boot_timeout": "30s"}})", "file");
    auto upper = Config::from_json(R"({"vm": {"accelerator": "tcg"}})", "caller");
    auto config = lower.overlaid_with(upper);
    EXPECT_EQ(config.text("vm.accelerator"), "tcg");
    EXPECT_EQ(config.origin("vm.accelerator"), "caller");
    EXPECT_EQ(config.origin("vm.boot_timeout"), "file");
    EXPECT_EQ(lower.text("vm.accelerator"), "kvm");
}

TEST(Config, AnEmptyTextUnsetsWhatALowerLayerSet) {
    auto lower = Config::from_json(R"({"vm": {"boot_timeout": "30s"}})");
    auto config = lower.overlaid_with(Config::from_json(R"({"vm": {"boot_timeout": ""}})"));
    EXPECT_FALSE(config.is_set("vm.boot_timeout"));
    EXPECT_EQ(config.duration("vm.boot_timeout"), Duration::zero());
}

TEST(Config, OverlayingChecksTheRulesAgain) {
    auto lower = Config::from_json(R"({"session": {"default_ttl": "10h"}})");
    auto upper = Config::from_json(R"({"session": {"maximum_ttl": "9h"}})");
    EXPECT_THROW(lower.overlaid_with(upper), ConfigError);
}

TEST(Config, GettersRefuseUnknownPathsAndOtherTypes) {
    Config config;
    try {
        config.text("vm.acelerator");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.context().at("did_you_mean"), "vm.accelerator");
    }
    EXPECT_THROW(config.text("vm.boot_timeout"), Error);
    EXPECT_THROW(config.duration("vm.accelerator"), Error);
    EXPECT_THROW(config.text("kubernetes.token"), Error);
}

TEST(Config, WhatItPrintsReadsBackTheSame) {
    auto config = Config::from_json(R"({"vm": {"boot_timeout": "90s"}, "logging": {"format": "json"}})");
    EXPECT_EQ(Config::from_json(config.to_json()).to_json(), config.to_json());
    EXPECT_EQ(json::parse(config.to_json())["vm"]["boot_timeout"], "1m30s");
    EXPECT_EQ(json::parse(config.to_json())["providers"]["qemu_uid_base"], 610000);
}

TEST(ConfigValue, ListsHaveDistinctTextsFromTheChoices) {
    ConfigField field{"a.b", ConfigType::list, "", "", "", "red|green", "", ""};
    EXPECT_EQ(check_value(field, parse_json(R"(["red", "green"])").root).text, R"(["red","green"])");
    EXPECT_EQ(check_value(field, parse_json("[]").root).text, "[]");
    EXPECT_EQ(check_value(field, parse_json(R"(["red", "red"])").root).problem, "it has an item twice");
    EXPECT_EQ(check_value(field, parse_json(R"(["blue"])").root).problem, "it is not one of the choices");
    EXPECT_EQ(check_value(field, parse_json(R"([["red"]])").root).problem, "it is a list");
    EXPECT_EQ(check_value(field, parse_json(R"("red")").root).problem, "it is a text");
}

TEST(ConfigValue, NumbersAreFiniteAndWithinBounds) {
    ConfigField field{"a.b", ConfigType::number, "", "0", "1.5", "", "", ""};
    EXPECT_EQ(check_value(field, plain_scalar("0.25", 0)).text, "0.25");
    EXPECT_EQ(check_value(field, plain_scalar("1", 0)).problem, "");
    EXPECT_EQ(check_value(field, plain_scalar("2", 0)).problem, "it is more than 1.5");
    EXPECT_EQ(check_value(field, plain_scalar("1e999", 0)).problem, "it is not a finite number");
    EXPECT_EQ(check_value(field, plain_scalar(".inf", 0)).problem, "it is a text");
}

TEST(ConfigValue, LongAndInvalidTextIsShownSafely) {
    ConfigField field{"a.b", ConfigType::text, "", "", "", "", "", ""};
    EXPECT_EQ(shown_value(field, node(Node::Kind::text, std::string(500, 'a'))).size(), 83u);
    EXPECT_EQ(shown_value(field, node(Node::Kind::text, "a\x1b[31m")), "a?[31m");
    EXPECT_EQ(check_value(field, node(Node::Kind::text, "\xff\xfe")).problem, "it is not valid UTF-8");
    EXPECT_EQ(check_value(field, node(Node::Kind::text, std::string(5000, 'a'))).problem,
              "it is longer than 4096 characters");
}

TEST(ConfigSchema, DescribesEveryFieldAndNoOther) {
    auto schema = json::parse(config_json_schema());
    EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    EXPECT_EQ(schema["additionalProperties"], false);
    std::size_t count = 0;
    for (const auto& [name, section] : schema["properties"].items()) {
        EXPECT_EQ(section["additionalProperties"], false) << name;
        count += section["properties"].size();
    }
    EXPECT_EQ(count, config_fields().size());
    EXPECT_EQ(schema["properties"]["kubernetes"]["properties"]["token"]["writeOnly"], true);
    EXPECT_EQ(schema["properties"]["vm"]["properties"]["boot_timeout"]["x-environment"], "INFRA_SDK_VM__BOOT_TIMEOUT");
    for (const char* section :
         {"kubernetes", "aws", "vm", "isolation", "cost_optimization", "logging", "session", "store", "providers"})
        EXPECT_TRUE(schema["properties"].contains(section)) << section;
}

TEST(ConfigReference, ListsEveryFieldByItsEnvironmentName) {
    auto page = config_reference();
    for (const auto& field : config_fields())
        EXPECT_NE(page.find("`" + environment_name(field) + "`"), std::string::npos) << field.path;
}

}  // namespace
}  // namespace infrastructure_sdk
