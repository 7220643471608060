#include "simulation/person.hpp"

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

/// What a kind of use shows to the looks of the engine: clearly above its thresholds, or clearly below.
SimulatedUse use_of(std::optional<UseKind> kind) {
    SimulatedUse use;
    use.cpu_cores = 0.01;
    if (!kind) return use;
    if (*kind == UseKind::background) {
        use.cpu_cores = 1;
        use.disk_bytes_per_second = 1e6;
        return use;
    }
    use.vnc_clients = use.logged_in_users = 1;
    if (*kind == UseKind::open) return use;
    use.cpu_cores = 0.3;
    use.network_bytes_per_second = 20'000;
    use.input_events_per_second = 0.5;
    return use;
}

/// One who acts; holds what all steps need.
class Person {
public:
    Person(const SimulatedScene& scene, LivedSession& lived)
        : scene_(scene), lived_(lived), clock_(*scene.environment.clock) {}

    Task<void> live() {
        const auto& planned = *lived_.planned;
        const auto end = planned.start + planned.length;
        co_await sleep_to(planned.start);
        for (std::size_t i = 0; i < planned.uses.size(); ++i) {
            const auto& use = planned.uses[i];
            const auto from = planned.start + use.at;
            if (i == 0 && use.at > Duration::zero()) co_await come(from);
            co_await sleep_to(from);
            const bool is_last = i + 1 == planned.uses.size();
            const auto next = is_last ? end : planned.start + planned.uses[i + 1].at;
            co_await spend(use.kind, from + use.length, next);
        }
        if (planned.uses.empty()) co_await come(end);
        co_await sleep_to(end);
        if (planned.ended_by_user) co_await finish();
    }

private:
    MonotonicTime monotonic(WallTime time) const { return clock_.monotonic_now() + (time - clock_.wall_now()); }
    Task<void> sleep_to(WallTime when) { return clock_.sleep_until(monotonic(when), {}); }
    bool runs() const { return lived_.state == SessionState::active; }
    bool gone() const {
        return lived_.session_id.empty() || lived_.state == SessionState::terminated ||
               lived_.state == SessionState::terminating || lived_.state == SessionState::failed;
    }
    void show(std::optional<UseKind> kind) {
        if (runs()) scene_.host->set_use(lived_.vm_id, use_of(kind), clock_.monotonic_now());
    }

    /// The use stays as it is from now on.
    void settle(WallTime until) {
        lived_.steady_since = clock_.monotonic_now();
        lived_.steady_until = monotonic(until);
    }

    /// Makes the session and does nothing yet.
    Task<void> come(WallTime until) {
        settle(until);
        co_await reach(until);
        show(std::nullopt);
    }

    /// One segment: `next` is when another use begins.
    Task<void> spend(UseKind kind, WallTime until, WallTime next) {
        scene_.tally->want(lived_, kind, clock_.wall_now());
        settle(until);
        while (clock_.wall_now() < until) {
            // A job does not make itself a session, but for the first.
            const bool comes = kind == UseKind::work || lived_.session_id.empty();
            if (comes && !runs()) co_await reach(until);
            show(kind);
            Call until_then{Deadline(monotonic(until)), {}, {}};
            if (clock_.wall_now() < until) co_await lived_.changed.wait(clock_, until_then);
        }
        scene_.tally->want(lived_, std::nullopt, clock_.wall_now());
        settle(next);
        // Who is back within the hour leaves the screen connected.
        const bool stays = kind == UseKind::work && next - until <= std::chrono::hours(1);
        show(stays ? std::optional(UseKind::open) : std::nullopt);
    }

    /// Until the session is active, or it is too late: then the wait is given up, and counted as that.
    Task<void> reach(WallTime until) {
        const auto wanted = clock_.wall_now();
        const auto kind = gone() ? WaitKind::start : WaitKind::resume;
        while (!runs() && clock_.wall_now() < until) {
            bool denied = false;
            if (gone()) denied = !co_await create();
            else if (lived_.state == SessionState::suspended) denied = !co_await resume();
            if (runs()) break;
            const auto retry = denied ? std::min(until, clock_.wall_now() + scene_.options->retry_after) : until;
            Call pause{Deadline(monotonic(retry)), {}, {}};
            if (clock_.wall_now() < retry) co_await lived_.changed.wait(clock_, pause);
        }
        if (!runs()) ++lived_.outcome.gave_up;
        else if (clock_.wall_now() > wanted) scene_.tally->note_wait(lived_, kind, clock_.wall_now() - wanted);
    }

    Task<bool> create() {
        SessionRequest request;
        const auto& planned = *lived_.planned;
        const auto& templates = scene_.options->templates;
        request.user_id = planned.user_id;
        request.tenant = planned.tenant;
        request.tags = planned.tags;
        request.template_name =
            templates.contains(planned.template_name) ? planned.template_name : scene_.options->default_template;
        Call call;
        std::exception_ptr refusal;
        try {
            auto session = co_await scene_.engine->create(request, call);
            scene_.tally->follow(lived_, session);
            co_return true;
        } catch (const Error&) {
            refusal = std::current_exception();
        }
        note_refusal(refusal);
        co_return false;
    }

    Task<bool> resume() {
        Call call;
        std::exception_ptr refusal;
        try {
            co_await scene_.engine->resume(lived_.session_id, call);
            co_return true;
        } catch (const Error&) {
            refusal = std::current_exception();
        }
        note_refusal(refusal);
        co_return false;
    }

    /// Only what a limit or a policy says is a denial; all else is the simulation's own fault, or a state that changed
    /// meanwhile and is looked at again.
    void note_refusal(const std::exception_ptr& refusal) {
        try {
            std::rethrow_exception(refusal);
        } catch (const Error& error) {
            const auto code = error.errc();
            if (code == Errc::invalid_transition) return;
            const bool denied = code == Errc::quota_exceeded || code == Errc::capacity ||
                                code == Errc::budget_exceeded || code == Errc::admission_denied || code == Errc::policy;
            if (!denied) throw;
            ++lived_.outcome.denied;
        }
    }

    Task<void> finish() {
        lived_.user_ends = true;
        if (gone()) co_return;
        Call call;
        try {
            co_await scene_.engine->terminate(lived_.session_id, TerminationReason::request, call);
        } catch (const Error& error) {
            // It ended by itself at this very moment.
            if (error.errc() != Errc::not_found && error.errc() != Errc::invalid_transition) throw;
        }
    }

    const SimulatedScene& scene_;
    LivedSession& lived_;
    Clock& clock_;
};

}  // namespace

Task<void> live(const SimulatedScene* scene, LivedSession* lived) {
    Person person(*scene, *lived);
    co_await person.live();
}

}  // namespace infrastructure_sdk
