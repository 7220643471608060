// "Could not look" never becomes "passed": for every check and every fact on which it rests, the fact is missing,
// refused, garbage, partial, somebody else's or too weak.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <cctype>

#include "support/isolation_scene.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using test::Scene;
using testing::HasSubstr;
using Status = FindingStatus;

/// A VM for which the check's verdict rests on this fact; several checks need some facts only when others are not
/// enough.
Scene scene_resting_on(const std::string& check, const std::string& fact) {
    Scene scene;
    if (check == "MEM-06") {
        bool direct = fact.starts_with("qom:");
        scene["qom:/machine:dump-guest-core"] = !direct;
        scene["proc.limits"] = test::limits(direct ? "unlimited" : "0");
    }
    if (fact == "sys.ksm_run") scene["proc.ksm"] = test::ksm_stat("0", "yes", "yes");
    return scene;
}

template <class F>
void for_every_fact(F body) {
    for (const auto& check : isolation::checks())
        for (const auto& fact : check.definition.facts) body(check.definition.id, fact);
}

/// What was collected, e.g. for STO-03 "/2/inode" of proc.files, and whether the check reads it at all.
bool reads(const std::string& check, const std::string& fact, const std::string& pointer) {
    static const std::map<std::string, std::vector<std::string>> read{
        {"CMP-01 qmp:query-kvm", {"/enabled"}},
        {"CMP-01 proc.files", {"/target"}},
        {"STO-03 proc.files", {"/target", "/inode", "/writable"}},
        {"STO-05 file.directory", {"/name", "/mode", "/uid", "/has_acl"}},
        {"STO-05 process.uid", {"/expected_uid"}},
        {"RUN-07 file.directory", {"/0/name", "/0/mode"}},
        {"RUN-07 qmp:query-chardev", {"/filename"}},
        {"RUN-07 qmp:query-vnc", {"/enabled"}},
        {"NET-12 qmp:query-rx-filter", {"/main-mac"}},
        {"NET-12 neighbours.macs", {"/macs"}},
    };
    auto it = read.find(check + " " + fact);
    // An element of a list, e.g. "/1" or "/1/macs/0", is always read, but by RUN-07, which looks for the directory
    // only.
    if (std::isdigit(static_cast<unsigned char>(pointer.back())))
        return check + fact != "RUN-07file.directory" || pointer == "/0";
    if (it == read.end()) return true;
    for (const auto& end : it->second)
        if (pointer.ends_with(end)) return true;
    return false;
}

TEST(IsolationBlindness, EveryCheckRestsOnEachFactThatItNames) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto scene = scene_resting_on(check, fact);
        // Pages marked for merging never pass, whatever the switch says.
        EXPECT_EQ(scene.status(check), fact == "sys.ksm_run" ? Status::fail : Status::pass) << check << " " << fact;
    });
}

TEST(IsolationBlindness, IsUnknownWhenAFactIsMissingOrRefused) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto missing = scene_resting_on(check, fact), refused = missing;
        missing.forget(fact);
        auto finding = missing.judge(check);
        EXPECT_EQ(finding.status(), Status::unknown) << check << " " << fact;
        EXPECT_EQ(finding.reason(), "could not look at " + fact + ": nobody collected it");
        refused.deny(fact, "permission denied");
        finding = refused.judge(check);
        EXPECT_EQ(finding.status(), Status::unknown) << check << " " << fact;
        EXPECT_EQ(finding.reason(), "could not look at " + fact + ": permission denied");
    });
}

TEST(IsolationBlindness, IsUnknownWhenEverythingIsMissing) {
    for (const auto& check : isolation::checks())
        EXPECT_EQ(check.judge(check.definition, isolation::Facts()).status(), Status::unknown) << check.definition.id;
}

TEST(IsolationBlindness, IsUnknownWhenAFactIsNotJson) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        for (const char* bytes : {"", " ", "}{", "nul", "\"", "[1,", "\xff\xfe", "[] []"}) {
            auto scene = scene_resting_on(check, fact);
            scene.garble(fact, bytes);
            auto finding = scene.judge(check);
            EXPECT_EQ(finding.status(), Status::unknown) << check << " " << fact << " " << bytes;
            EXPECT_THAT(finding.reason(), HasSubstr("could not look at " + fact));
        }
    });
}

TEST(IsolationBlindness, IsUnknownWhenTheBytesOfAFactAreCutOffAnywhere) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto scene = scene_resting_on(check, fact);
        auto whole = scene[fact].dump();
        for (std::size_t size = 0; size < whole.size(); ++size) {
            scene.garble(fact, whole.substr(0, size));
            EXPECT_EQ(scene.status(check), Status::unknown) << check << " " << fact << " " << size;
        }
    });
}

TEST(IsolationBlindness, NeverPassesOnAWrongType) {
    const std::map<std::string, json> legal{
        {"proc.listeners", json::array()}, {"neighbours.macs", json::array()}, {"sys.core_pattern", "text"}};
    for_every_fact([&](const std::string& check, const std::string& fact) {
        for (const json& value :
             {json(), json(true), json(0), json(-1), json(1e300), json(""), json("text"), json::array(), json::object(),
              json{nullptr}, json{0}, json{"text"}, json{json::array()}, json{json::object()}, json{{"enabled", "yes"}},
              json{{{"name", "."}, {"mode", "0700"}}}}) {
            if (auto it = legal.find(fact); it != legal.end() && it->second == value) continue;
            auto scene = scene_resting_on(check, fact);
            scene[fact] = value;
            ASSERT_NO_THROW(scene.judge(check)) << check << " " << fact << " " << value;
            EXPECT_NE(scene.status(check), Status::pass) << check << " " << fact << " " << value;
        }
    });
}

/// Every place in a document.
void places(const json& value, const json::json_pointer& at, std::vector<json::json_pointer>& found) {
    if (!at.empty()) found.push_back(at);
    if (value.is_array())
        for (std::size_t i = 0; i < value.size(); ++i) places(value[i], at / i, found);
    if (value.is_object())
        for (const auto& [key, item] : value.items()) places(item, at / key, found);
}

TEST(IsolationBlindness, NeverPassesWhenAnyPartThatItReadsIsGarbageOrGone) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        std::vector<json::json_pointer> found;
        places(scene_resting_on(check, fact)[fact], json::json_pointer(), found);
        for (const auto& place : found) {
            auto what = check + " " + fact + " " + place.to_string();
            bool read = reads(check, fact, place.to_string());
            for (const json& value : {json(), json("text"), json(-1), json(7.5), json::array({1}), json{{"a", 1}}}) {
                auto scene = scene_resting_on(check, fact);
                auto& part = scene[fact][place];
                // Another text is another fact, not garbage; those are tried below.
                if (value.is_string() && part.is_string() && fact != "proc.threads") continue;
                part = value;
                ASSERT_NO_THROW(scene.judge(check)) << what << " " << value;
                EXPECT_EQ(scene.status(check) == Status::pass, !read) << what << " " << value;
            }
            auto scene = scene_resting_on(check, fact);
            auto& parent = scene[fact][place.parent_pointer()];
            if (!parent.is_object()) continue;  // a shorter list cannot be told from a whole one
            parent.erase(place.back());
            ASSERT_NO_THROW(scene.judge(check)) << what;
            EXPECT_EQ(scene.status(check) == Status::pass, !read) << what << " removed";
        }
    });
}

/// Cuts the text of a fact everywhere before the last character that matters.
void expect_no_pass_on_a_cut(Scene scene, const std::string& check, const std::string& fact,
                             const json::json_pointer& place, const std::string& last_that_matters) {
    auto whole = scene[fact][place].get<std::string>();
    auto end = whole.rfind(last_that_matters) + last_that_matters.size();
    for (std::size_t size = 0; size < end; ++size) {
        scene[fact][place] = whole.substr(0, size);
        EXPECT_NE(scene.status(check), Status::pass) << check << " " << fact << " cut to " << size;
    }
    scene[fact][place] = whole.substr(0, end);
    EXPECT_EQ(scene.status(check), Status::pass) << check << " " << fact;
}

TEST(IsolationBlindness, NeverPassesOnATextThatEndsTooEarly) {
    for (const char* check : {"RUN-01", "RUN-02", "RUN-03"})
        expect_no_pass_on_a_cut(Scene(), check, "proc.threads", json::json_pointer("/1"), "Seccomp:\t2");
    const json::json_pointer whole;
    expect_no_pass_on_a_cut(Scene(), "MEM-01", "proc.ksm", whole, "ksm_mergeable: no");
    expect_no_pass_on_a_cut(scene_resting_on("MEM-06", "proc.limits"), "MEM-06", "proc.limits", whole,
                            "Max core file size        0                    u");
    Scene locked;
    locked["proc.locks"] =
        "1: POSIX  ADVISORY  WRITE 1 08:02:4712 0 EOF\n2: OFDLCK ADVISORY  READ  -1 08:02:4711 100 101\n";
    expect_no_pass_on_a_cut(locked, "STO-03", "proc.locks", whole, "08:02:4711");
}

TEST(IsolationBlindness, NeverPassesWhenALineOfAThreadIsMissingOrGarbage) {
    for (const char* check : {"RUN-01", "RUN-02", "RUN-03"})
        for (const char* name : {"\nUid:", "\nCapEff:", "\nCapBnd:", "\nNoNewPrivs:", "\nSeccomp:"})
            for (const char* instead : {"\nOther:\t1", "\n"}) {
                Scene scene;
                auto text = test::thread_status();
                auto start = text.find(name);
                scene["proc.threads"][2] =
                    text.replace(start, text.find('\n', start + 1) - start, std::string(instead));
                EXPECT_EQ(scene.status(check), Status::unknown) << check << name << instead;
                scene["proc.threads"][2] = test::thread_status().insert(start + std::string(name).size(), "\tx");
                EXPECT_EQ(scene.status(check), Status::unknown) << check << name << " with a word too many";
            }
}

TEST(IsolationBlindness, NeverPassesWhenOneNeighbourCouldNotBeSeen) {
    for (const json& entry :
         {json{{"session", "c"}, {"could_not_look", "refused"}}, json{{"session", "c"}}, json(), json("c"),
          json{{"session", 7}, {"macs", 7}}, json{{"session", "c"}, {"macs", {"not a mac"}}},
          json{{"session", "c"}, {"macs", {nullptr}}}}) {
        Scene scene;
        scene["neighbours.macs"][1] = entry;
        auto finding = scene.judge("NET-12");
        EXPECT_EQ(finding.status(), Status::unknown) << entry;
        EXPECT_THAT(finding.reason(), HasSubstr("a neighbour could not be looked at")) << entry;
    }
}

TEST(IsolationBlindness, NeverPassesOnADirectoryListingWithoutTheDirectoryItself) {
    for (const char* check : {"RUN-07", "STO-05"}) {
        Scene scene;
        scene["file.directory"].erase(0);
        EXPECT_EQ(scene.status(check), Status::unknown) << check;
    }
}

TEST(IsolationBlindness, NeverPassesWhenItIsNotKnownWhoseTheFactsAre) {
    Scene scene;
    scene.epoch.clear();
    for (const auto& check : isolation::checks())
        EXPECT_EQ(scene.status(check.definition.id), Status::unknown) << check.definition.id;
}

TEST(IsolationBlindness, NeverPassesOnTheWordOfTheGuestOrOfTheProvider) {
    Scene guest, intent;
    guest.vantage = "guest";
    intent.source = "provider";
    for (const auto& check : isolation::checks()) {
        EXPECT_EQ(guest.status(check.definition.id), Status::unknown) << check.definition.id;
        EXPECT_EQ(intent.status(check.definition.id), Status::unknown) << check.definition.id;
    }
}

TEST(IsolationBlindness, AnotherSessionsDataDoesNotPass) {
    Scene other_uid, other_disk;
    other_uid["process.uid"]["expected_uid"] = 610002u;
    EXPECT_EQ(other_uid.status("STO-05"), Status::fail);
    other_disk["proc.locks"] = "1: OFDLCK ADVISORY  READ  -1 08:02:9999 100 101\n";
    EXPECT_EQ(other_disk.status("STO-03"), Status::fail);
}

}  // namespace
}  // namespace infrastructure_sdk
