#include "support/real_owner.hpp"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/seeded_random.hpp"
#include "providers/qemu/control_groups.hpp"
#include "providers/qemu/effects.hpp"
#include "providers/qemu/process.hpp"
#include "providers/qemu/vm_record.hpp"
#include "session/reservation_ledger.hpp"
#include "store/wait_for_lock.hpp"
#include "session/session_fsm.hpp"
#include "support/child_process.hpp"
#include <infrastructure_sdk/json.hpp>
#include <infrastructure_sdk/providers/qemu.hpp>

namespace infrastructure_sdk::test {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

constexpr std::size_t disk_bytes = 1 << 20;
constexpr auto patience = std::chrono::minutes(2);

/// A disk that no firmware boots from.
void make_image(const std::string& folder, const std::string& name) {
    fs::create_directories(folder + "/" + name);
    std::ofstream(folder + "/" + name + "/disk.raw") << std::string(disk_bytes, '\0');
    json disk{{"path", "disk.raw"},
              {"sha256", std::string(64, 'a')},
              {"size_bytes", disk_bytes},
              {"format", "raw"},
              {"virtual_size_bytes", disk_bytes}};
    json manifest{{"schema", 1},
                  {"name", name},
                  {"version", "1"},
                  {"os", "other"},
                  {"architecture", "x86_64"},
                  {"channels", json::array()},
                  {"files", {{"disk", disk}}}};
    std::ofstream(folder + "/" + name + "/manifest.json") << manifest.dump();
}

Template machine(const std::string& name) {
    Template made;
    made.name = made.image = name;
    made.memory = Quantity::from_milli((std::int64_t{16} << 20) * 1000);
    made.display = false;
    made.network = NetworkMode::none;
    made.channels.clear();
    made.tpm = true;
    return made;
}

std::string read_all(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

Task<bool> whole(Task<void> task) {
    co_await std::move(task);
    co_return true;
}

}  // namespace

FirmwareImages::FirmwareImages() {
    for (const auto& entry : templates()) make_image(directory_.path(), entry.first);
}

std::map<std::string, Template> FirmwareImages::templates() {
    auto mute = machine("mute");
    mute.channels = {"agent"};
    mute.boot_timeout = std::chrono::milliseconds(60);
    return {{"firmware", machine("firmware")}, {"mute", mute}};
}

namespace {

Task<std::unique_ptr<OwnerLock>> lock_of(Environment environment, std::string state_directory, Call call) {
    auto lock = co_await wait_for_lock(environment, state_directory, call);
    co_return std::make_unique<OwnerLock>(std::move(lock));
}

}  // namespace

RealOwner::RealOwner(const std::string& state_directory, const std::string& images, std::function<void()> die)
    : runtime_(make_null_sink()), points_(std::make_shared<CrashPoints>(std::move(die))) {
    const auto& environment = runtime_.environment();
    lock_ = run(lock_of(environment, state_directory, call()));
    disk_ = make_sqlite_store(environment, state_directory + "/state.db");
    QemuOptions options;
    options.state_directory = state_directory;
    options.accelerator = AcceleratorChoice::tcg;
    options.translation_cache_mib = 32;
    options.after_effect = [points = points_](const char* effect) { points->note(effect); };
    provider_ = run(make_qemu_provider(environment, options, call()));
    SessionEngineOptions engine;
    engine.image_directory = images;
    engine.templates = FirmwareImages::templates();
    engine.limits = {{LimitScope::host, "", LimitResource::sessions, 100}};
    engine_ = std::make_unique<SessionEngine>(environment, with_crash_points(disk_, points_),
                                              with_crash_points(provider_, points_), engine);
}

RealOwner::~RealOwner() {
    if (engine_) run(whole(engine_->close()));
    run(whole(provider_->close()));
    engine_.reset();
    disk_->close();
    runtime_.stop();
}

Call RealOwner::call() const { return {Deadline::after(*runtime_.environment().clock, patience), {}, "owner"}; }

void RealOwner::recover() { run(whole(engine_->recover(call()))); }

std::vector<Session> RealOwner::sessions() {
    std::vector<Session> found;
    for (const auto& record : records("session")) found.push_back(session_from_json(json::parse(record.json)));
    return found;
}

std::vector<Record> RealOwner::records(const std::string& kind) { return run(disk_->list(kind, "", 1'000'000)); }

bool RealOwner::rest(Duration at_most) {
    Call within{Deadline::after(*runtime_.environment().clock, at_most), {}, "rest"};
    EventQuery news;
    try {
        for (;;) {
            for (auto page = run(engine_->events(news)); !page.empty(); page = run(engine_->events(news)))
                news.after = page.back().sequence;
            auto all = sessions();
            if (std::none_of(all.begin(), all.end(), [](const auto& session) { return is_transient(session.state); }))
                return true;
            run(engine_->next_events(news, within));
        }
    } catch (const Error& error) {
        if (error.errc() != Errc::timeout) throw;
        return false;
    }
}

std::vector<std::string> RealOwner::end_all() {
    std::vector<std::string> left;
    auto all = sessions();
    for (const auto& session : all)
        if (session.state != SessionState::terminated)
            run(engine_->terminate(session.id, TerminationReason::admin, call()));
    for (const auto& session : all) try {
            run(engine_->wait(session.id, SessionState::terminated, call()));
        } catch (const Error& error) {
            left.push_back("stuck: " + session.id + " does not end: " + error.message());
        }
    return left;
}

std::vector<VmProcess> vm_processes(const std::string& state_directory) {
    std::vector<VmProcess> found;
    auto below = fs::canonical(state_directory).string() + "/";
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
        auto name = entry.path().filename().string();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        auto place = fs::read_symlink(entry.path() / "cwd", error);
        if (error || !place.string().starts_with(below)) continue;
        std::istringstream words(read_all(entry.path() / "cmdline"));
        VmProcess process{std::stoll(name), {}, false};
        std::string before;
        for (std::string word; std::getline(words, word, '\0'); before = word) {
            if (before == "-uuid") process.uuid = word;
            if (word == "--tpmstate") process.tpm = true;
        }
        // swtpm does not say whose it is, but where it runs does.
        if (process.tpm) process.uuid = place.parent_path().filename().string();
        if (!before.empty()) found.push_back(process);
    }
    return found;
}

namespace {

using Sessions = std::map<std::string, Session>;

void check_processes(const Sessions& by_vm, const std::string& state_directory, std::vector<std::string>& wrong) {
    std::map<std::string, std::size_t> alive, tpms;
    for (const auto& process : vm_processes(state_directory)) {
        ++(process.tpm ? tpms : alive)[process.uuid];
        if (!by_vm.contains(process.uuid)) wrong.push_back("orphan process: of VM " + process.uuid);
    }
    for (const auto& [vm, session] : by_vm) {
        if (alive[vm] > 1) wrong.push_back("double VM: " + session.id + " has " + std::to_string(alive[vm]));
        if (!is_transient(session.state) && alive[vm] != tpms[vm])
            wrong.push_back("TPM: " + session.id + " has " + std::to_string(tpms[vm]) + " processes of one beside " +
                            std::to_string(alive[vm]));
        bool should = session.state == SessionState::active;
        if (!is_transient(session.state) && should != (alive[vm] > 0))
            wrong.push_back("state: " + session.id + " is " + name_of(session.state) + " with " +
                            std::to_string(alive[vm]) + " processes (" + session.failure_reason + ")");
        bool socket = fs::exists(state_directory + "/vms/" + vm + "/guest/qmp.sock");
        if (socket && alive[vm] == 0) wrong.push_back("stale socket: of " + session.id);
    }
}

void check_folders(const Sessions& by_vm, const std::string& state_directory, std::vector<std::string>& wrong) {
    std::map<std::string, std::string> by_owner;
    std::map<unsigned, std::string> by_uid;
    for (const auto& entry : fs::directory_iterator(state_directory + "/vms")) {
        auto name = entry.path().filename().string();
        if (!by_vm.contains(name)) {
            wrong.push_back("orphan folder: " + name);
            continue;
        }
        auto record = qemu::load_record(entry.path());
        if (!record) {
            wrong.push_back("orphan folder: " + name + " without a record");
            continue;
        }
        auto& first = by_owner[record->spec.owner_session];
        if (!first.empty()) wrong.push_back("double VM: " + name + " and " + first + " of one session");
        first = name;
        if (record->uid && !by_uid.emplace(*record->uid, name).second) wrong.push_back("double uid: of " + name);
        bool memory = fs::exists(entry.path() / "guest/memory.state");
        if (memory && by_vm.at(name).state == SessionState::active)
            wrong.push_back("debris: a memory file of the running VM " + name);
        if (fs::exists(entry.path() / "vm.json.new")) wrong.push_back("debris: half a record of " + name);
    }
    const std::set<std::string> known{"vms",          "owner.lock", "state.db", "state.db-wal",
                                      "state.db-shm", "snapshots",  "keys"};
    for (const auto& entry : fs::directory_iterator(state_directory))
        if (!known.contains(entry.path().filename())) wrong.push_back("debris: " + entry.path().string());
    // Nobody here takes any.
    if (auto snapshots = fs::path(state_directory) / "snapshots"; fs::exists(snapshots) && !fs::is_empty(snapshots))
        wrong.push_back("debris: in " + snapshots.string());
}

}  // namespace

std::vector<std::string> faults_of(RealOwner& owner, const std::string& state_directory,
                                   const std::vector<std::string>& acknowledged) {
    std::vector<std::string> wrong;
    Sessions by_vm, by_id;
    for (const auto& session : owner.sessions()) {
        by_id[session.id] = session;
        if (session.state != SessionState::terminated) by_vm[session.vm_id.value] = session;
        if (is_transient(session.state)) wrong.push_back("stuck: " + session.id + " is " + name_of(session.state));
        if (session.state == SessionState::failed && session.template_name == "firmware")
            wrong.push_back("failed: " + session.id + ", " + session.failure_reason + ": " + session.failure_message);
    }
    for (const auto& id : acknowledged)
        if (!by_id.contains(id)) wrong.push_back("lost: " + id);
    check_processes(by_vm, state_directory, wrong);
    check_folders(by_vm, state_directory, wrong);
    std::map<std::string, Reservation> rows;
    for (const auto& record : owner.records(ReservationLedger::kind))
        rows[record.id] = reservation_from_json(json::parse(record.json));
    for (const auto& [vm, session] : by_vm) {
        auto row = rows.find(session.id);
        if (row == rows.end()) wrong.push_back("reservation: none for " + session.id);
        else if (row->second.amounts != reservation_of(session).amounts)
            wrong.push_back("reservation: wrong amounts of " + session.id + ", " + name_of(session.state));
    }
    if (rows.size() != by_vm.size()) wrong.push_back("reservation: of nobody");
    for (const auto& record : owner.records("intent")) {
        auto session = by_id.find(record.id);
        if (session == by_id.end() || !is_transient(session->second.state))
            wrong.push_back("debris: an intent of " + record.id);
    }
    return wrong;
}

std::vector<std::string> leavings_of(RealOwner& owner, const std::string& state_directory) {
    std::vector<std::string> left;
    for (const auto& process : vm_processes(state_directory)) left.push_back("orphan process: " + process.uuid);
    for (const auto& entry : fs::directory_iterator(state_directory + "/vms"))
        left.push_back("orphan folder: " + entry.path().filename().string());
    for (const auto& [controller, offer] : qemu::look_at_groups()) {
        auto group = qemu::installation_group(offer.folder, qemu::installation_name(state_directory));
        if (offer.version != 0 && fs::exists(group)) left.push_back("orphan control group: " + group);
    }
    for (const auto& kind : {"reservation", "intent"})
        for (const auto& record : owner.records(kind)) left.push_back(std::string(kind) + ": of " + record.id);
    return left;
}

std::vector<std::string> crash_point_names() {
    std::vector<std::string> names;
    for (const auto& verb : crash_verbs)
        for (const char* side : {"before ", "after "}) names.push_back(side + std::string(verb));
    std::set<std::string> events{"session.lifecycle.created"};
    for (const auto& row : session_transitions())
        // These need a host that fails, and have a test of their own.
        if (row.input != SessionInput::vm_lost && row.input != SessionInput::suspend_failed &&
            row.input != SessionInput::resume_refused)
            events.insert(event_type(row.from, row.to));
    for (const auto& event : events)
        for (const char* side : {"before ", "after "}) names.push_back(side + event);
    names.insert(names.end(), qemu::effect_names.begin(), qemu::effect_names.end());
    return names;
}

// ---- the child -----------------------------------------------------------------------------------------------------

namespace {

/// What users do with an owner, by a seed: so that every state is left in every way.
class RealStory {
public:
    RealStory(RealOwner& owner, std::uint64_t seed, int report) : owner_(owner), random_(seed), report_(report) {}

    void run() {
        make("firmware");
        constexpr int steps = 14;
        for (int i = 0; i < steps; ++i) act(i);
    }

private:
    void say(const std::string& line) { (void)!::write(report_, (line + "\n").data(), line.size() + 1); }

    void make(const std::string& source) {
        SessionRequest request;
        request.user_id = "user-" + std::to_string(random_.below(3));
        request.template_name = source;
        say("created " + owner_.run(owner_.engine().create(request, owner_.call())).id);
    }

    void act(int step) {
        std::vector<Session> live;
        for (auto& session : owner_.sessions())
            if (session.state != SessionState::terminated) live.push_back(std::move(session));
        if (step == 2 || live.empty() || (live.size() < 3 && random_.below(4) == 0))
            make(step % 5 == 2 ? "mute" : "firmware");
        else ask(live[random_.below(live.size())]);
        if (random_.below(4) != 0) owner_.rest(patience);
    }

    void ask(const Session& session) {
        auto& engine = owner_.engine();
        auto call = owner_.call();
        auto luck = random_.below(6);
        bool end = luck == 0 || session.state == SessionState::failed;
        try {
            if (end) owner_.run(engine.terminate(session.id, TerminationReason::request, call));
            else if (session.state == SessionState::active) owner_.run(engine.suspend(session.id, call));
            else if (session.state == SessionState::suspended) owner_.run(engine.resume(session.id, call));
        } catch (const Error& error) {
            if (error.errc() != Errc::invalid_transition) throw;  // it went on meanwhile
        }
    }

    RealOwner& owner_;
    SeededRandom random_;
    int report_;
};

}  // namespace

Death live_and_die(const std::string& state_directory, const std::string& images, std::uint64_t seed,
                   const std::string& point, std::size_t number) {
    auto body = [&](int report) {
        auto say = [report](const std::string& line) { (void)!::write(report, (line + "\n").data(), line.size() + 1); };
        try {
            RealOwner owner(state_directory, images, [] { ::kill(::getpid(), SIGKILL); });
            if (point.empty()) owner.points().arm(number);
            else owner.points().arm(point, number);
            owner.recover();
            RealStory(owner, seed, report).run();
            say("end");
        } catch (const std::exception& error) {
            say("trouble " + std::string(error.what()));
        }
    };
    ChildProcess child(body);
    Death death;
    bool ended = false;
    for (auto line = child.read_line(); !line.empty(); line = child.read_line()) {
        if (line.starts_with("created ")) death.acknowledged.push_back(line.substr(8));
        else if (line.starts_with("trouble ")) death.trouble = line.substr(8);
        else ended = true;
    }
    bool killed = child.wait() == -1;
    death.reached = killed && !ended;
    return death;
}

}  // namespace infrastructure_sdk::test
