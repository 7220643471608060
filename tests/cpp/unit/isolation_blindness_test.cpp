// "Could not look" never becomes "passed": for every check and every fact on which it rests, the fact is missing,
// refused, garbage, partial, another instance's or too weak.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>

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
    if (check == "CMP-02" && fact.ends_with("proc.core_cookies"))
        for (auto& other : scene.neighbours)
            other["proc.threads"] = std::vector(3, test::thread_status("610009", "0", "1", "2", "0-1"));
    if (check == "CMP-06" && fact.starts_with("neighbours:")) {
        scene["process.promises"]["exclusive"] = true;
        scene.neighbours.clear();
    }
    // On a disk that QEMU does not encrypt the device below decides, and the other way round.
    if (check == "STO-07" && fact.starts_with("qmp:")) scene["proc.files"][4]["encryption"] = "";
    if (check == "STO-07" && fact == "proc.files")
        scene["qmp:query-named-block-nodes"][1]["encrypted"] = false,
        scene["qmp:query-named-block-nodes"][1]["drv"] = "qcow2";
    return scene;
}

bool settled(Status status) { return status == Status::pass || status == Status::not_applicable; }

template <class F>
void for_every_fact(F body) {
    int count = 0;
    for (const auto& check : isolation::checks())
        for (const auto& fact : check.definition.facts)
            if (check.definition.id + fact != "CMP-06neighbours:process.identity")
                body(check.definition.id, fact), ++count;
    testing::Test::RecordProperty("facts_of_checks", count);
}

TEST(IsolationBlindness, EveryCheckRestsOnEachFactThatItNames) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto finding = scene_resting_on(check, fact).judge(check);
        EXPECT_TRUE(settled(finding.status())) << check << " " << fact << ": " << finding.reason();
    });
}

TEST(IsolationBlindness, IsNeverSettledWhenAFactIsMissingRefusedOrTimedOut) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto missing = scene_resting_on(check, fact), refused = missing;
        missing.forget(fact);
        EXPECT_FALSE(settled(missing.status(check))) << check << " " << fact;
        for (const char* why : {"permission denied", "timeout"}) {
            refused.deny(fact, why);
            auto finding = refused.judge(check);
            EXPECT_FALSE(settled(finding.status())) << check << " " << fact;
            if (finding.status() == Status::unknown) {
                EXPECT_THAT(finding.reason(), HasSubstr(why)) << check << " " << fact;
            }
        }
    });
}

TEST(IsolationBlindness, IsNeverSettledOnTheFactsOfAnotherInstance) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto scene = scene_resting_on(check, fact);
        scene.mistake(fact);
        auto finding = scene.judge(check);
        EXPECT_FALSE(settled(finding.status())) << check << " " << fact;
        if (finding.status() == Status::unknown) {
            EXPECT_THAT(finding.reason(), HasSubstr("another instance")) << check << " " << fact;
        }
    });
}

TEST(IsolationBlindness, IsUnknownWhenEverythingIsMissing) {
    for (const auto& check : isolation::checks())
        EXPECT_EQ(check.judge(check.definition, isolation::Facts()).status(), Status::unknown) << check.definition.id;
}

TEST(IsolationBlindness, IsNeverSettledWhenAFactIsNotJson) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        for (const char* bytes : {"", " ", "}{", "nul", "\"", "[1,", "\xff\xfe", "[] []"}) {
            auto scene = scene_resting_on(check, fact);
            scene.garble(fact, bytes);
            EXPECT_FALSE(settled(scene.status(check))) << check << " " << fact << " " << bytes;
        }
    });
}

TEST(IsolationBlindness, IsNeverSettledWhenTheBytesOfAFactAreCutOffAnywhere) {
    for_every_fact([](const std::string& check, const std::string& fact) {
        auto scene = scene_resting_on(check, fact);
        auto whole = scene.at(fact).dump();
        auto step = whole.size() / 40 + 1;
        for (std::size_t size = 0; size < whole.size(); size += step) {
            scene.garble(fact, whole.substr(0, size));
            EXPECT_FALSE(settled(scene.status(check))) << check << " " << fact << " " << size;
        }
    });
}

/// Of a fact, the values that say something although they are empty or short.
bool is_legal(const std::string& fact, const json& value) {
    static const std::map<std::string, std::vector<json>> legal{
        {"proc.maps", {json::array()}},
        {"proc.environ", {json::array(), json{"text"}}},
        {"hmp:info usernet", {"", "text"}},
        {"hmp:info network", {""}},
        {"sys.core_pattern", {"text"}},
        {"sys.swaps", {json::array()}},
        {"sys.ptrace_scope", {"text"}},
        {"sys.taps", {json::array()}},
        {"sys.vulnerabilities", {json{{"enabled", "yes"}}}},
        {"qmp:query-rx-filter", {json::array()}},
        {"qmp:query-named-block-nodes", {json::array()}},
        {"proc.label", {"text"}},
        {"process.identity", {json::object(), json{{"enabled", "yes"}}}},
        {"sys.iommu_groups", {json::object()}},
        {"proc.core_cookies", {json::array(), json{0}}},
    };
    auto it = legal.find(fact.starts_with("neighbours:") ? fact.substr(11) : fact);
    return it != legal.end() && std::find(it->second.begin(), it->second.end(), value) != it->second.end();
}

TEST(IsolationBlindness, IsNeverSettledOnAWrongType) {
    for_every_fact([&](const std::string& check, const std::string& fact) {
        for (const json& value :
             {json(), json(true), json(0), json(-1), json(1e300), json(""), json("text"), json::array(), json::object(),
              json{nullptr}, json{0}, json{"text"}, json{json::array()}, json{json::object()}, json{{"enabled", "yes"}},
              json{{{"name", "."}, {"mode", "0700"}}}}) {
            if (is_legal(fact, value)) continue;
            auto scene = scene_resting_on(check, fact);
            scene.at(fact) = value;
            ASSERT_NO_THROW(scene.judge(check)) << check << " " << fact << " " << value;
            EXPECT_FALSE(settled(scene.status(check))) << check << " " << fact << " " << value;
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

/// Parts that are not read, or may be absent or null because that says something.
bool may_differ(const std::string& check, const std::string& fact, const std::string& place, const json& value) {
    auto name = fact.starts_with("neighbours:") ? fact.substr(11) : fact;
    auto ends = [&](const char* end) { return place.ends_with(end); };
    if (name == "process.identity") return true;  // its fields are checked before anything else is collected
    if (name == "proc.core_cookies") return true;
    if (ends("/ports")) return value == json::array({1});
    if (name == "proc.sockets" && (ends("/mode") || ends("/folder_mode"))) return value.is_null() && check == "NET-13";
    // The value of an accept says nothing; without its hook or policy a chain denies nothing, and that is a failure.
    if (name == "nft.ruleset" && ends("/accept")) return !value.is_object() || value.size() > 0;
    if (name == "proc.files" && ends("/folder")) return value.is_null() && (check != "STO-05" || place[1] != '4');
    if (ends("/drops") || ends("/limit") || ends("/mode") || ends("/folder_mode") || ends("/quota_us"))
        return value.is_null() && (name.starts_with("probe.") || check == "MEM-04");
    if (name == "agent.identity" && ends("/machine_id")) return value.is_string();
    if (ends("/backing-filename") || ends("/format-specific")) return value.is_object();
    return false;
}

TEST(IsolationBlindness, IsNeverSettledWhenAnyPartIsGarbageOrGone) {
    // Each place gets two of the values: over all checks and places, every one is tried many times.
    const std::vector<json> garbage{json(), json(-1), json(7.5), json::array({1}), json{{"a", 1}}};
    std::size_t turn = 0;
    for_every_fact([&](const std::string& check, const std::string& fact) {
        std::vector<json::json_pointer> found;
        auto scene = scene_resting_on(check, fact);
        const json whole = scene.at(fact);
        places(whole, json::json_pointer(), found);
        for (const auto& place : found) {
            auto what = check + " " + fact + " " + place.to_string();
            for (auto number : {turn, turn + 2}) {
                const auto& value = garbage[number % garbage.size()];
                if (may_differ(check, fact, place.to_string(), value)) continue;
                scene.at(fact) = whole;
                scene.at(fact)[place] = value;
                ASSERT_NO_THROW(scene.judge(check)) << what << " " << value;
                EXPECT_FALSE(settled(scene.status(check))) << what << " " << value;
            }
            ++turn;
            scene.at(fact) = whole;
            auto& parent = scene.at(fact)[place.parent_pointer()];
            // A shorter list cannot be told from a whole one; nor can a map of what there is.
            if (!parent.is_object() || fact.find("vulnerabilities") != std::string::npos) continue;
            if (may_differ(check, fact, place.to_string(), json::object())) continue;
            parent.erase(place.back());
            ASSERT_NO_THROW(scene.judge(check)) << what;
            EXPECT_FALSE(settled(scene.status(check))) << what << " removed";
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
    for (const char* check : {"RUN-01", "RUN-02", "RUN-03", "CMP-02", "MEM-03"})
        expect_no_pass_on_a_cut(Scene(), check, "proc.threads", json::json_pointer("/0"), "Seccomp:\t2");
    const json::json_pointer whole;
    expect_no_pass_on_a_cut(Scene(), "MEM-01", "proc.ksm", whole, "ksm_mergeable: no");
    expect_no_pass_on_a_cut(scene_resting_on("MEM-06", "proc.limits"), "MEM-06", "proc.limits", whole,
                            "Max core file size        0                    u");
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

TEST(IsolationBlindness, IsUnknownWhenNobodyListedTheOtherSessions) {
    for (const auto& check : isolation::checks()) {
        const auto& facts = check.definition.facts;
        bool compares =
            std::any_of(facts.begin(), facts.end(), [](const auto& name) { return name.starts_with("neighbours:"); });
        // Nothing asked for a host of its own.
        if (std::string(check.definition.id) == "CMP-06") continue;
        Scene scene;
        scene.neighbours_listed = false;
        EXPECT_EQ(scene.status(check.definition.id) == Status::unknown, compares) << check.definition.id;
    }
}

TEST(IsolationBlindness, IsUnknownWhenItIsNotKnownWhoseTheFactsAre) {
    Scene scene;
    scene.epoch.clear();
    for (const auto& check : isolation::checks())
        EXPECT_EQ(scene.status(check.definition.id), Status::unknown) << check.definition.id;
}

TEST(IsolationBlindness, IsNeverSettledOnTheWordOfTheGuestOrOfTheProvider) {
    Scene guest, intent;
    guest.vantage = "guest";
    intent.source = "provider";
    for (const auto& check : isolation::checks()) {
        EXPECT_EQ(guest.status(check.definition.id), Status::unknown) << check.definition.id;
        EXPECT_EQ(intent.status(check.definition.id), Status::unknown) << check.definition.id;
    }
}

TEST(IsolationBlindness, KernelStateDoesNotPassWhatNeedsAProbe) {
    for (const auto& check : isolation::checks()) {
        if (check.definition.floor != Strength::e4 || std::string(check.definition.id) == "NET-06") continue;
        Scene scene;
        scene.source = "procfs";
        EXPECT_EQ(scene.status(check.definition.id), Status::unknown) << check.definition.id;
    }
}

/// The table of outcomes of two-sided probes.
TEST(IsolationBlindness, AProbePassesOnlyWhenBothSidesTell) {
    struct Row {
        bool control, left_port, received;
        const char* answer;
        json drops;
        Status status;
    };
    const Row rows[] = {
        {true, true, true, "none", 3u, Status::fail},      {true, true, true, "none", nullptr, Status::fail},
        {true, true, false, "none", 3u, Status::pass},     {true, true, false, "none", nullptr, Status::pass},
        {true, true, false, "none", 2u, Status::unknown},  {true, true, false, "none", 0u, Status::unknown},
        {true, true, false, "target", 0u, Status::fail},   {true, true, false, "enforcement", 0u, Status::pass},
        {true, false, false, "none", 0u, Status::unknown}, {false, true, false, "none", 3u, Status::unknown},
        {false, true, true, "none", 3u, Status::unknown},
    };
    for (const auto& row : rows) {
        Scene scene;
        auto& attempt = scene["probe.guests"]["attempts"][0];
        attempt["control"] = row.control;
        attempt["left_port"] = row.left_port;
        attempt["received"] = row.received;
        attempt["answer"] = row.answer;
        attempt["drops"] = row.drops;
        EXPECT_STREQ(name_of(scene.status("NET-04")), name_of(row.status)) << attempt;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
