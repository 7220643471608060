// Failed sessions that come back: by hand, or as their template's restart rule says.
#include "session/session_engine_impl.hpp"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "session/restart.hpp"
#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

std::uint32_t draw(Random& random) {
    std::array<std::uint8_t, 4> bytes{};
    random.fill(bytes);
    return static_cast<std::uint32_t>(bytes[0] | bytes[1] << 8 | bytes[2] << 16) | std::uint32_t{bytes[3]} << 24;
}

/// Since when every channel has answered.
std::optional<WallTime> active_since(const Session& session) {
    for (const auto& condition : session.conditions)
        if (condition.type == "Ready" && condition.status == "True") return condition.since;
    return std::nullopt;
}

bool is_denial(Errc code) {
    return code == Errc::quota_exceeded || code == Errc::capacity || code == Errc::budget_exceeded;
}

json shown(const RestartVerdict& verdict, const RestartRule& rule, WallTime now) {
    if (!verdict.again) return {{"again", false}, {"reason", verdict.why_not}, {"max_attempts", rule.max_attempts}};
    return {{"again", true},
            {"attempt", verdict.attempt},
            {"max_attempts", rule.max_attempts},
            {"at", to_rfc3339(now + verdict.delay)}};
}

}  // namespace

/// What a transition means for recovery; gives what its event tells of it. The session is in its new state, its
/// conditions are still those of `before`.
json SessionEngine::Impl::aftermath(Session& session, SessionState before, SessionInput input) {
    json told = json::object();
    session.restart.next_at.reset();
    if (input == SessionInput::recover) {
        told["failure"] = {{"reason", session.failure_reason},
                           {"message", session.failure_message},
                           {"channel", session.failure_channel}};
        if (session.restart.attempts > 0) told["attempt"] = session.restart.attempts;
        session.failure_reason.clear();
        session.failure_message.clear();
        session.failure_channel.clear();
    }
    auto source = options.templates.find(session.template_name);
    if (session.state != SessionState::failed || source == options.templates.end()) return told;
    const auto& rule = source->second.restart;
    Loss loss{before, session.failure_reason, session.restart.attempts, Duration::zero()};
    if (auto since = active_since(session); since && before == SessionState::active) loss.active_for = now() - *since;
    auto verdict = plan_restart(rule, loss, rule.policy == RestartPolicy::never ? 0 : draw(*env.random));
    if (verdict.again) session.restart = {verdict.attempt, now() + verdict.delay};
    if (verdict.again || !verdict.why_not.empty()) told["restart"] = shown(verdict, rule, now());
    return told;
}

/// A recovery begins from the disk alone: what still runs for an earlier execution, or lies in a memory file, goes.
Task<void> SessionEngine::Impl::clear_for_recovery(Session session, Call call) {
    // Only a verb takes a session back to provisioning, and every verb counts the generation up.
    if (session.generation == 1) co_return;
    auto status = co_await look(session.vm_id, call);
    if (status.state == VmState::unknown)
        throw Error(Errc::provider, "the VM of session " + session.id + " could not be looked at",
                    {{"reason", "CouldNotLook"}});
    bool alive = status.state == VmState::starting || status.state == VmState::running ||
                 status.state == VmState::paused || status.state == VmState::suspending ||
                 status.state == VmState::stopping;
    if (status.state == VmState::suspended || (alive && status.execution_id != session.execution_id))
        co_await provider->power_off(session.vm_id, call);
}

Task<Session> SessionEngine::recover_session(std::string id, Call call) {
    auto impl = impl_;
    auto execution = make_uuid(*impl->env.random);
    Impl::Edit renew = [execution](Session& session, Batch&) {
        session.execution_id = execution;
        session.restart.attempts = 0;
        return true;
    };
    co_return co_await impl->begin(std::move(id), SessionInput::recover, std::string("request"), call, renew);
}

/// Starts sessions again whose time has come; sleeps until the next one.
Task<void> SessionEngine::Impl::restart() {
    auto self = shared_from_this();
    auto stop = tasks.stop_source().get_token();
    while (!stop.stop_requested()) {
        auto due = restarts.due(now());
        for (const auto& id : due) {
            auto target = find(id);
            if (target && target->session.state == SessionState::failed && target->session.restart.next_at)
                co_await start_again(target);
            else restarts.set(id, std::nullopt);
        }
        co_await wait_for_clock(restarts.next(), Deadline());
    }
}

Task<void> SessionEngine::Impl::start_again(LivePtr target) {
    auto execution = make_uuid(*env.random);
    Edit renew = [execution](Session& session, Batch&) {
        session.execution_id = execution;
        return session.restart.next_at.has_value();
    };
    Call call;
    std::string detail;
    bool denied = false;
    try {
        co_await begin(target->session.id, SessionInput::recover, std::string("restart"), call, renew);
        co_return;
    } catch (const Error& error) {
        if (error.errc() == Errc::cancelled) co_return;
        detail = error.message();
        denied = is_denial(error.errc());
    }
    if (!denied)
        env.logger->log(LogLevel::error, "session", "a session could not be started again",
                        {{"session", target->session.id}, {"detail", detail}});
    // What it needs is not free, or could not be written: another attempt is used up, or the same one comes later.
    Edit edit = [&](Session& session, Batch& batch) {
        if (session.state != SessionState::failed || !session.restart.next_at) return false;
        constexpr Duration pause = std::chrono::seconds(30);
        auto source = options.templates.find(session.template_name);
        if (!denied || source == options.templates.end()) {
            session.restart.next_at = now() + pause;
            return true;
        }
        const auto& rule = source->second.restart;
        Loss loss{SessionState::failed, "Denied", session.restart.attempts, Duration::zero()};
        auto verdict = plan_restart(rule, loss, draw(*env.random));
        if (verdict.again) session.restart = {verdict.attempt, now() + verdict.delay};
        else session.restart.next_at.reset();
        json data{{"message", detail}, {"restart", shown(verdict, rule, now())}};
        batch.events.push_back({0, now(), "session.lifecycle.restart_denied", session.id, session.execution_id, "",
                                data.dump(-1, ' ', false, json::error_handler_t::replace)});
        return true;
    };
    std::string failed;
    try {
        co_await update(target, edit);
    } catch (const Error& error) {
        failed = error.message();
    }
    if (failed.empty()) co_return;
    env.logger->log(LogLevel::error, "session", "a restart could not be put off",
                    {{"session", target->session.id}, {"detail", failed}});
    restarts.set(target->session.id, now() + std::chrono::seconds(30));
}

}  // namespace infrastructure_sdk
