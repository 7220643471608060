#pragma once
// The fields of requests and decisions, once: `fields(visit, value)` calls `visit(name, field)` for each. What writes,
// reads and compares them visits them here.

#include <concepts>
#include <type_traits>

#include <infrastructure_sdk/policy/decision.hpp>

namespace infrastructure_sdk::policy {

template <class T, class Of>
concept Is = std::same_as<std::remove_const_t<T>, Of>;

template <class Visit, Is<PolicySession> T>
void fields(Visit& visit, T& value) {
    visit("id", value.id);
    visit("user_id", value.user_id);
    visit("tenant", value.tenant);
    visit("template_name", value.template_name);
    visit("session_type", value.session_type);
    visit("state", value.state);
    visit("cpu_cores", value.cpu_cores);
    visit("memory_bytes", value.memory_bytes);
    visit("disk_bytes", value.disk_bytes);
    visit("gpu_count", value.gpu_count);
    visit("gpu_type", value.gpu_type);
    visit("tags", value.tags);
    visit("created_at", value.created_at);
    visit("last_activity_at", value.last_activity_at);
    visit("expires_at", value.expires_at);
    visit("price_per_hour", value.price_per_hour);
}

template <class Visit, Is<PolicyUsage> T>
void fields(Visit& visit, T& value) {
    visit("sessions_of_user", value.sessions_of_user);
    visit("sessions_of_tenant", value.sessions_of_tenant);
    visit("sessions", value.sessions);
    visit("gpus_of_user", value.gpus_of_user);
    visit("gpus", value.gpus);
}

template <class Visit, Is<PlaceCandidate> T>
void fields(Visit& visit, T& value) {
    visit("name", value.name);
    visit("free_cpu_cores", value.free_cpu_cores);
    visit("free_memory_bytes", value.free_memory_bytes);
    visit("spot", value.spot);
    visit("price_per_hour", value.price_per_hour);
    visit("labels", value.labels);
}

template <class Visit, Is<AdmitRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("usage", value.usage);
}

template <class Visit, Is<PlaceRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("candidates", value.candidates);
}

template <class Visit, Is<SizeRequest> T>
void own_fields(Visit&, T&) {}

template <class Visit, Is<IdleRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("quiet_for", value.quiet_for);
    visit("idle_timeout", value.idle_timeout);
    visit("connections", value.connections);
    visit("use_fully_seen", value.use_fully_seen);
    visit("standard", value.standard);
}

template <class Visit, Is<ScheduleRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("quiet_for", value.quiet_for);
}

template <class Visit, Is<BudgetRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("spent_by_session", value.spent_by_session);
    visit("spent_by_user", value.spent_by_user);
    visit("spent_by_tenant", value.spent_by_tenant);
    visit("limit_of_user", value.limit_of_user);
    visit("limit_of_tenant", value.limit_of_tenant);
    visit("currency", value.currency);
}

template <class Visit, Is<IsolationRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("verdict", value.verdict);
    visit("score_lower", value.score_lower);
    visit("score_upper", value.score_upper);
    visit("failed_checks", value.failed_checks);
    visit("is_start", value.is_start);
    visit("standard", value.standard);
}

template <class Visit, Is<InterruptionRequest> T>
void own_fields(Visit& visit, T& value) {
    visit("kind", value.kind);
    visit("deadline", value.deadline);
    visit("standard", value.standard);
}

/// What every request has, then what is its own.
template <class T>
concept Asked = requires(T& value) {
    value.now;
    value.session;
};
template <class Visit, Asked T>
void fields(Visit& visit, T& value) {
    visit("now", value.now);
    visit("session", value.session);
    own_fields(visit, value);
}

template <class Visit, Is<AdmitDecision> T>
void fields(Visit& visit, T& value) {
    visit("action", value.action);
    visit("reason", value.reason);
}

template <class Visit, Is<PlaceDecision> T>
void fields(Visit& visit, T& value) {
    visit("candidate", value.candidate);
    visit("reason", value.reason);
}

template <class Visit, Is<SizeDecision> T>
void fields(Visit& visit, T& value) {
    visit("cpu_cores", value.cpu_cores);
    visit("memory_bytes", value.memory_bytes);
    visit("reason", value.reason);
}

template <class Visit, Is<SessionDecision> T>
void fields(Visit& visit, T& value) {
    visit("action", value.action);
    visit("reason", value.reason);
    visit("ask_again_after", value.ask_again_after);
}

}  // namespace infrastructure_sdk::policy
