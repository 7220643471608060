// Who may include whom, what public headers show, and that time, threads and chance come in through the Environment
// only.

#include <gtest/gtest.h>

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>

#include "support/source_tree.hpp"

namespace infrastructure_sdk {
namespace {

namespace fs = std::filesystem;
using test::code_of;
using test::Include;
using test::SourceFile;
using test::sources_below;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using Folders = std::set<std::string>;

/// Each folder and the folders that it may include besides itself. `core` is cpp/src/core and the words used everywhere
/// (the headers directly below infrastructure_sdk/); `sdk` is the facade.
const std::map<std::string, Folders>& arrows() {
    static const std::map<std::string, Folders> table{
        {"core", {}},
        {"config", {"core"}},
        {"vm", {"core", "config"}},
        {"store", {"core"}},
        {"http", {"core"}},
        {"webhooks", {"core", "config", "store", "http"}},
        {"isolation", {"core", "vm", "store"}},
        {"policy", {"core", "config", "vm", "store"}},
        {"kubernetes", {"core"}},
        {"session", {"core", "config", "vm", "isolation", "policy", "kubernetes", "store"}},
        {"providers", {"core", "vm", "kubernetes"}},
        {"simulation", {"core", "vm", "store", "policy", "session", "providers"}},
        {"sdk",
         {"core", "config", "vm", "store", "http", "webhooks", "isolation", "policy", "kubernetes", "session",
          "providers", "simulation"}},
    };
    return table;
}

/// `path` from cpp/src or from cpp/include/infrastructure_sdk.
std::string folder_of(const std::string& path) {
    auto slash = path.find('/');
    if (slash == std::string::npos) return path.starts_with("sdk.") ? "sdk" : "core";
    auto folder = path.substr(0, slash);
    return folder == "detail" ? "core" : folder;
}

bool is_public(const std::string& path) { return path.starts_with("cpp/include/"); }

std::string folder_of_file(const SourceFile& file) {
    const std::string headers = "cpp/include/infrastructure_sdk/", sources = "cpp/src/";
    return folder_of(file.path.substr((is_public(file.path) ? headers : sources).size()));
}

/// The folder of an included file of the project; empty for others.
std::string folder_of_include(const Include& include) {
    const std::string installed = "infrastructure_sdk/";
    if (include.name.starts_with(installed)) return folder_of(include.name.substr(installed.size()));
    return include.quoted && include.name != "builtin_templates.inc" ? folder_of(include.name) : "";
}

std::vector<std::string> wrong_arrows(const SourceFile& file) {
    std::vector<std::string> wrong;
    auto from = folder_of_file(file);
    auto allowed = arrows().find(from);
    if (allowed == arrows().end()) return {file.path + " is in a folder without a rule: " + from};
    for (const auto& include : file.includes()) {
        auto to = folder_of_include(include);
        if (!to.empty() && to != from && !allowed->second.contains(to))
            wrong.push_back(file.path + " includes " + include.name);
    }
    return wrong;
}

bool is_standard(const std::string& name) { return name.find_first_of("/.") == std::string::npos; }

std::vector<std::string> wrong_in_public(const SourceFile& file) {
    std::vector<std::string> wrong;
    for (const auto& include : file.includes()) {
        const auto& name = include.name;
        bool known = is_standard(name) || name.starts_with("infrastructure_sdk/") || name.starts_with("boost/asio/") ||
                     name == "nlohmann/json_fwd.hpp";
        if (include.quoted || !known) wrong.push_back(file.path + " includes " + name);
    }
    return wrong;
}

std::vector<SourceFile> product() {
    auto files = sources_below("cpp/include"), sources = sources_below("cpp/src");
    files.insert(files.end(), sources.begin(), sources.end());
    return files;
}

template <class F>
std::vector<std::string> collect(const std::vector<SourceFile>& files, F wrong_in) {
    std::vector<std::string> all;
    for (const auto& file : files)
        for (auto& text : wrong_in(file)) all.push_back(std::move(text));
    return all;
}

TEST(Architecture, TheSourcesAreFoundWithTheirIncludes) {
    EXPECT_GE(sources_below("cpp/include").size(), 20u);
    EXPECT_GE(sources_below("cpp/src").size(), 50u);
    EXPECT_GE(sources_below("bindings").size(), 5u);
    Folders found;
    std::size_t includes = 0;
    for (const auto& file : product()) {
        found.insert(folder_of_file(file));
        includes += file.includes().size();
    }
    for (const char* folder : {"core", "config", "vm", "store", "isolation", "session", "providers", "sdk"})
        EXPECT_TRUE(found.contains(folder)) << folder;
    EXPECT_GE(includes, 300u);
}

TEST(Architecture, IncludesFollowTheArrows) { EXPECT_THAT(collect(product(), wrong_arrows), IsEmpty()); }

TEST(Architecture, TheArrowsLeadFromNoEngineToAProvider) {
    for (const auto& [folder, direct] : arrows()) {
        Folders reached = direct;
        for (bool grown = true; grown;) {
            auto before = reached.size();
            for (const auto& each : Folders(reached))
                reached.insert(arrows().at(each).begin(), arrows().at(each).end());
            grown = reached.size() > before;
        }
        EXPECT_FALSE(reached.contains(folder)) << folder << " includes itself in a circle";
        // A simulation is no engine: it puts them together, with machines that are none.
        if (folder != "sdk" && folder != "simulation") {
            EXPECT_FALSE(reached.contains("providers") || reached.contains("sdk")) << folder;
        }
    }
}

TEST(Architecture, AWrongIncludeIsNoticed) {
    auto wrong = [](std::string path, std::string text) { return wrong_arrows({std::move(path), std::move(text)}); };
    EXPECT_THAT(wrong("cpp/src/session/x.cpp", "#include \"providers/qemu/process.hpp\"\n"), SizeIs(1));
    EXPECT_THAT(wrong("cpp/src/session/x.cpp", "# include <infrastructure_sdk/providers/qemu.hpp>\n"), SizeIs(1));
    EXPECT_THAT(wrong("cpp/include/infrastructure_sdk/session/x.hpp", "#include <infrastructure_sdk/sdk.hpp>\n"),
                SizeIs(1));
    EXPECT_THAT(wrong("cpp/src/core/x.cpp", "#include <vector>\n#include \"vm/y.hpp\"\n"),
                ElementsAre("cpp/src/core/x.cpp includes vm/y.hpp"));
    EXPECT_THAT(wrong("cpp/src/store/x.cpp", "#include \"isolation/facts.hpp\"\n"), SizeIs(1));
    EXPECT_THAT(wrong("cpp/src/providers/qemu/x.cpp", "#include \"session/session_fsm.hpp\"\n"), SizeIs(1));
    EXPECT_THAT(wrong("cpp/src/novel/x.cpp", ""), SizeIs(1));
    EXPECT_THAT(
        wrong("cpp/src/session/x.cpp", "#include \"core/asio.hpp\"\n#include \"session/y.hpp\"\n#include <string>\n"),
        IsEmpty());
    auto shown = [](std::string text) {
        return wrong_in_public({"cpp/include/infrastructure_sdk/x.hpp", std::move(text)});
    };
    for (const char* name :
         {"<cpprest/http_client.h>", "<spdlog/spdlog.h>", "<sqlite3.h>", "<nlohmann/json.hpp>", "<boost/beast.hpp>",
          "\"core/asio.hpp\"", "\"providers/qemu/qmp_client.hpp\"", "<sys/types.h>", "<openssl/evp.h>"})
        EXPECT_THAT(shown(std::string("#include ") + name + "\n"), SizeIs(1)) << name;
}

TEST(Architecture, EveryIncludedFileOfTheProjectExists) {
    auto root = test::source_root();
    EXPECT_THAT(collect(product(),
                        [&](const SourceFile& file) {
                            std::vector<std::string> wrong;
                            for (const auto& include : file.includes()) {
                                if (folder_of_include(include).empty()) continue;
                                auto where = include.quoted ? root / "cpp/src" / include.name
                                                            : root / "cpp/include" / include.name;
                                if (!fs::exists(where)) wrong.push_back(file.path + " includes " + include.name);
                            }
                            return wrong;
                        }),
                IsEmpty());
}

TEST(Architecture, PublicHeadersShowAsioAndTheForwardHeaderOfJsonOnly) {
    EXPECT_THAT(collect(sources_below("cpp/include"), wrong_in_public), IsEmpty());
}

TEST(Architecture, EveryThirdPartyLibraryIsIncludedInItsPlaceOnly) {
    struct Rule {
        const char* prefix;
        std::vector<std::string> places;
    };
    const Rule rules[] = {
        {"cpprest/", {"cpp/src/kubernetes/transport_cpprest.cpp"}},
        {"spdlog/", {"cpp/src/core/log.cpp"}},
        {"sqlite3", {"cpp/src/store/"}},
        {"boost/asio/", {"cpp/src/core/asio.hpp", "cpp/src/http/net.hpp", "cpp/src/http/tls_stream.cpp"}},
        {"boost/beast/", {"cpp/src/http/response_parser.cpp"}},
        {"yaml-cpp/", {"cpp/src/core/"}},
        {"toml++/", {"cpp/src/core/"}},
        {"openssl/", {"cpp/src/core/", "cpp/src/http/tls_stream.cpp"}},
    };
    EXPECT_THAT(collect(sources_below("cpp/src"),
                        [&](const SourceFile& file) {
                            std::vector<std::string> wrong;
                            for (const auto& include : file.includes())
                                for (const auto& rule : rules)
                                    if (include.name.starts_with(rule.prefix) &&
                                        std::none_of(rule.places.begin(), rule.places.end(),
                                                     [&](const auto& place) { return file.path.starts_with(place); }))
                                        wrong.push_back(file.path + " includes " + include.name);
                            return wrong;
                        }),
                IsEmpty());
}

TEST(Architecture, BindingsIncludeInstalledHeadersOnly) {
    auto root = test::source_root();
    EXPECT_THAT(collect(sources_below("bindings"),
                        [&](const SourceFile& file) {
                            std::vector<std::string> wrong;
                            for (const auto& [name, quoted] : file.includes()) {
                                bool known = quoted ? fs::exists(root / "bindings" / name)
                                             : name.starts_with("infrastructure_sdk/")
                                                 ? fs::exists(root / "cpp/include" / name)
                                                 : !fs::exists(root / "cpp/src" / name);
                                if (!known) wrong.push_back(file.path + " includes " + name);
                            }
                            return wrong;
                        }),
                IsEmpty());
}

/// Primitives of time, threads and chance. What is asked through Clock, Random and Executor has other names.
std::vector<std::string> primitives_in(const SourceFile& file) {
    static const std::regex primitive(
        R"(\b(system_clock|steady_clock|high_resolution_clock|file_clock|utc_clock|tai_clock|clock_gettime|gettimeofday|timespec_get)\b)"
        R"(|\b(this_thread|sleep_for|usleep|nanosleep|clock_nanosleep|timerfd_create|setitimer)\b)"
        R"(|\b(steady_timer|system_timer|high_resolution_timer|deadline_timer|basic_waitable_timer|thread_pool)\b)"
        R"(|\b(jthread|pthread_create|thrd_create|random_device|getrandom|getentropy|arc4random\w*|RAND_bytes|make_system_\w+)\b)"
        R"(|\b(mt19937(?:_64)?|minstd_rand0?|ranlux\w*|default_random_engine|random_generator)\b)"
        R"(|\bstd::(thread|async|time|rand|clock)\b|(?:^|[^\w:>.])::\s*(time|sleep|rand|random|clock|alarm)\s*\()");
    std::vector<std::string> found;
    std::istringstream lines(code_of(file.text));
    for (std::string line; std::getline(lines, line);)
        for (std::sregex_iterator at(line.begin(), line.end(), primitive), end; at != end; ++at)
            for (std::size_t group = 1; group < at->size(); ++group)
                if ((*at)[group].matched) found.push_back((*at)[group]);
    return found;
}

TEST(Architecture, APrimitiveIsNoticedInCodeAndNotInWords) {
    auto found = [](std::string text) { return primitives_in({"x.cpp", std::move(text)}); };
    EXPECT_THAT(found("auto t = std::chrono::steady_clock::now();"), ElementsAre("steady_clock"));
    EXPECT_THAT(found("std::this_thread::sleep_for(1s);"), ElementsAre("this_thread", "sleep_for"));
    EXPECT_THAT(found("std::thread a; std::async(f); x = std::time(nullptr) + ::time(nullptr);"),
                ElementsAre("thread", "async", "time", "time"));
    EXPECT_THAT(found("int a = 1'000; std::random_device d; char c = '\"'; std::mt19937_64 e;"),
                ElementsAre("random_device", "mt19937_64"));
    EXPECT_THAT(found("/* steady_clock */ // std::thread\n#include <thread>\nlog(\"sleep_for \\\" usleep\", "
                      "R\"x(std::thread \")x\");"),
                IsEmpty());
    EXPECT_THAT(
        found("co_await clock->sleep_until(when, stop); read_time(::timeout(x)); WallTime time(x); this->time(x);"),
        IsEmpty());
}

TEST(Architecture, OnlyTheEnvironmentTouchesClocksThreadsAndChance) {
    const std::map<std::string, std::set<std::string>> allowed{
        {"cpp/include/infrastructure_sdk/clock.hpp", {"make_system_clock", "make_system_random"}},
        {"cpp/src/core/clock.cpp",
         {"clock_gettime", "steady_timer", "getrandom", "make_system_clock", "make_system_random"}},
        // Python keeps a state for each thread, and one that hangs must not take a thread of the pool with it.
        {"bindings/policy/policy_thread.cpp", {"thread"}},
        // It never rings: what a coroutine waits for until it is cancelled, without a clock.
        {"bindings/policy/waiting_room.cpp", {"steady_timer"}},
        {"cpp/src/core/runtime.cpp", {"thread", "thread_pool", "make_system_clock", "make_system_random"}},
    };
    std::map<std::string, std::set<std::string>> used;
    auto files = product(), bindings = sources_below("bindings");
    files.insert(files.end(), bindings.begin(), bindings.end());
    for (const auto& file : files)
        for (const auto& primitive : primitives_in(file)) used[file.path].insert(primitive);
    // Equal, so that a permission which nobody needs any more goes away too.
    EXPECT_EQ(used, allowed);
}

}  // namespace
}  // namespace infrastructure_sdk
