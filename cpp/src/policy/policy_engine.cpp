// Questions to policies, and what is written of the answers.
#include "policy/policy_records.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

namespace {

/// Questions that were given up and that a policy has not come back from, before it is not asked any more.
constexpr std::size_t most_overdue = 8;

/// From when a question was given up.
constexpr Duration stuck_after = std::chrono::seconds(10);

std::string one_line(const json& document) { return document.dump(-1, ' ', false, json::error_handler_t::replace); }

/// A question that is waited for, for a while.
struct Pending {
    explicit Pending(Executor executor) : answered(std::move(executor)) {}
    Signal answered;
    std::optional<PolicyAnswer> answer;
    bool given_up = false;
};

/// Comes back whenever the host does, which may be long after anybody waits.
Task<void> put_question(LoadedPolicyPtr policy, std::shared_ptr<Pending> pending, PolicyRequest request,
                        std::string state, Call call) {
    const auto point = point_of(request);
    PolicyAnswer answer;
    try {
        answer = co_await policy->host->decide(std::move(request), std::move(state), std::move(call));
    } catch (const std::exception& error) {
        answer = not_decided(PolicyAnswer::Outcome::failed, point, error.what());
    }
    --policy->under_way;
    if (pending->given_up) --policy->overdue;
    pending->answer = std::move(answer);
    pending->answered.notify_all();
    policy->came_back.notify_all();
}

/// An answer that counts is a decision of its point and leaves a state that can be kept.
PolicyAnswer checked(PolicyAnswer answer, const PolicyRequest& request) {
    const auto point = point_of(request);
    if (answer.outcome != PolicyAnswer::Outcome::decided) {
        answer.decision = standard_decision(point);
        answer.detail.resize(std::min(answer.detail.size(), policy_text_limit));
        return answer;
    }
    try {
        check(answer.decision, request);
    } catch (const std::exception& error) {
        return not_decided(PolicyAnswer::Outcome::invalid, point, error.what());
    }
    if (answer.state.size() > policy_state_limit)
        return not_decided(PolicyAnswer::Outcome::invalid, point,
                           "state: it has " + std::to_string(answer.state.size()) + " bytes; allowed: at most " +
                               std::to_string(policy_state_limit));
    if (!answer.state.empty() && !json::accept(answer.state))
        return not_decided(PolicyAnswer::Outcome::invalid, point, "state: it is not JSON");
    return answer;
}

/// How long a policy need not be asked again about the same session.
Duration rest_of(const PolicyAnswer& answer) {
    constexpr Duration longest = std::chrono::hours(24);
    const bool decided = answer.outcome == PolicyAnswer::Outcome::decided;
    const auto* given = decided ? std::get_if<SessionDecision>(&answer.decision) : nullptr;
    return given && given->ask_again_after ? std::min(*given->ask_again_after, longest) : Duration::zero();
}

/// Only what is said of a running session is said again and again.
bool is_of_running(DecisionPoint point) { return point >= DecisionPoint::idle; }

}  // namespace

std::string PolicyVerdict::reason() const {
    if (!by) return {};
    const auto& why = reason_of(decision);
    return by->name + (why.empty() ? "" : ": " + why);
}

PolicyEngine::PolicyEngine(Environment environment, std::shared_ptr<Store> store, PolicyEngineOptions options) {
    policy::check(options);
    impl_ = std::make_shared<Impl>(std::move(environment), std::move(store), std::move(options));
}

PolicyEngine::~PolicyEngine() = default;

const PolicyEngineOptions& PolicyEngine::options() const { return impl_->options; }

std::uint64_t PolicyEngine::revision() const noexcept { return impl_->revision; }

bool PolicyEngine::asks(DecisionPoint point) const {
    const auto& policies = impl_->by_point[static_cast<std::size_t>(point)];
    return std::any_of(policies.begin(), policies.end(),
                       [this](const auto& policy) { return impl_->book_of(*policy).enabled; });
}

bool PolicyEngine::Impl::is_rolled_back(const LoadedPolicy& policy) const {
    auto book = books.find(policy.identity.name);
    return book != books.end() && !policy.identity.sha256.empty() &&
           book->second.rolled_back_sha256 == policy.identity.sha256;
}

bool PolicyEngine::Impl::is_shadow_for(const LoadedPolicy& policy, const std::string& tenant) const {
    return is_rolled_back(policy) || !policy::is_in_force(policy.source.mode, policy.source.canary_tenants, tenant);
}

Task<PolicyVerdict> PolicyEngine::decide(PolicyRequest request, PolicyQuestion question, Call call) {
    auto impl = impl_;
    const auto point = point_of(request);
    for (;;) {
        PolicyVerdict verdict;
        verdict.decision = standard_decision(point);
        verdict.session_ = question.session.empty() ? session_of(request).id : question.session;
        verdict.point_ = point;
        const bool is_done = co_await impl->ask_each(request, question, call, verdict);
        if (is_done) co_return verdict;
    }
}

/// False = a reload took away who would have decided: the present ones are to be asked.
Task<bool> PolicyEngine::Impl::ask_each(const PolicyRequest& request, const PolicyQuestion& question, Call call,
                                        PolicyVerdict& verdict) {
    const auto asked = by_point[static_cast<std::size_t>(verdict.point_)];
    const auto revision_before = revision;
    // The shortest of all, and the shortest of those who said one.
    std::optional<Duration> rest, rest_said, rest_of_decision;
    for (const auto& policy : asked) {
        if (!book_of(*policy).enabled) continue;
        const bool shadow = is_shadow_for(*policy, session_of(request).tenant);
        if (shadow ? question.dry_run : verdict.by.has_value()) continue;
        std::optional<PolicyAnswer> answer;
        if (!policy->retired) answer = co_await ask(policy, request, verdict.session_, question.dry_run, call);
        const bool counts = answer && answer->outcome == PolicyAnswer::Outcome::decided;
        if (policy->retired && !counts) {
            if (verdict.by) continue;
            co_return false;
        }
        const auto said = answer ? rest_of(*answer) : Duration::zero();
        rest = std::min(rest.value_or(said), said);
        if (said > Duration::zero()) rest_said = std::min(rest_said.value_or(said), said);
        const bool was_decided = verdict.by.has_value();
        if (answer) take(*policy, std::move(*answer), request, question, verdict);
        if (verdict.by && !was_decided) rest_of_decision = std::min(said, rest_said.value_or(said));
    }
    // Who came in meanwhile was not asked.
    if (revision == revision_before)
        verdict.ask_again_after = rest_of_decision.value_or(rest.value_or(Duration::zero()));
    co_return true;
}

/// nullopt = it is left alone for now.
Task<std::optional<PolicyAnswer>> PolicyEngine::Impl::ask(LoadedPolicyPtr policy, const PolicyRequest& request,
                                                          const std::string& session, bool dry_run, Call call) {
    if (!policy->breaker.try_pass(env.clock->monotonic_now())) co_return std::nullopt;
    if (!dry_run) ++policy->asked;
    const auto& states = book_of(*policy).states;
    auto state = states.find(session);
    auto before = state == states.end() ? std::string() : state->second;
    std::optional<PolicyAnswer> answer;
    std::exception_ptr stopped;
    try {
        answer = policy->host->decide_now(request, before);
        if (!answer) answer = co_await ask_and_wait(policy, request, std::move(before), call);
    } catch (const std::exception& error) {
        if (call.stop.stop_requested()) stopped = std::current_exception();
        else answer = not_decided(PolicyAnswer::Outcome::failed, point_of(request), error.what());
    }
    if (stopped || dry_run) policy->breaker.note_abandoned();
    if (stopped) std::rethrow_exception(stopped);
    co_return checked(std::move(*answer), request);
}

/// The host against the clock; whichever is first.
Task<PolicyAnswer> PolicyEngine::Impl::ask_and_wait(LoadedPolicyPtr policy, PolicyRequest request, std::string state,
                                                    Call call) {
    const auto point = point_of(request);
    if (policy->overdue >= most_overdue)
        co_return not_decided(PolicyAnswer::Outcome::refused, point,
                              "it has not come back from " + std::to_string(policy->overdue) + " questions");
    const auto budget = policy->source.time_budget;
    auto within = call.within(Deadline::after(*env.clock, budget));
    auto pending = std::make_shared<Pending>(env.executor);
    std::stop_source given_up;
    Call inner{within.deadline, given_up.get_token(), call.correlation_id};
    ++policy->under_way;
    tasks.spawn(env.logger, "ask policy " + policy->identity.name,
                put_question(policy, pending, std::move(request), std::move(state), inner));
    while (!pending->answer && !within.deadline.expired(*env.clock) && !call.stop.stop_requested())
        co_await pending->answered.wait(*env.clock, within);
    const bool is_late = !pending->answer || pending->answer->outcome == PolicyAnswer::Outcome::timed_out;
    if (is_late && !std::exchange(policy->watched, true))
        tasks.spawn(env.logger, "watch policy " + policy->identity.name, tell_when_stuck(policy, point));
    if (pending->answer) co_return std::move(*pending->answer);
    pending->given_up = true;
    ++policy->overdue;
    given_up.request_stop();
    if (call.stop.stop_requested()) throw Error(Errc::cancelled, "cancelled: asking a policy");
    co_return not_decided(PolicyAnswer::Outcome::timed_out, point,
                          "no answer within " + std::to_string(budget / std::chrono::microseconds(1)) + " us");
}

/// Of one that does not come back from a question that it was told to leave: told once, until it has come back.
Task<void> PolicyEngine::Impl::tell_when_stuck(LoadedPolicyPtr policy, DecisionPoint point) {
    auto self = shared_from_this();
    const auto stop = tasks.stop_source().get_token();
    bool is_told = false;
    for (;;) {
        co_await env.clock->sleep_until(env.clock->monotonic_now() + stuck_after, stop);
        if (stop.stop_requested()) co_return;
        if (overdue_of(*policy) == 0 || policy->retired) break;
        if (!std::exchange(is_told, true)) co_await tell_stuck(policy, point);
    }
    policy->watched = false;
}

/// It keeps a thread and may keep a core.
Task<void> PolicyEngine::Impl::tell_stuck(LoadedPolicyPtr policy, DecisionPoint point) {
    const char* advice = policy->source.untrusted
                             ? "its process is ended and started anew"
                             : "its thread may keep a core until this process ends; untrusted: true gives it a process "
                               "of its own, which is ended when it is late";
    json data{
        {"policy", policy->identity}, {"point", name_of(point)}, {"overdue", overdue_of(*policy)}, {"reason", advice}};
    env.logger->log(LogLevel::error, "policy", "a policy does not come back from a question",
                    {{"policy", policy->identity.name}, {"point", name_of(point)}, {"detail", advice}});
    Batch batch;
    batch.events.push_back(event_of(*policy, "policy.stuck", one_line(data)));
    try {
        co_await store->commit(std::move(batch));
    } catch (const Error& error) {
        env.logger->log(LogLevel::warning, "policy", "an event of a policy could not be stored",
                        {{"policy", policy->identity.name}, {"detail", error.message()}});
    }
}

/// What an answer means for the verdict.
void PolicyEngine::Impl::take(LoadedPolicy& policy, PolicyAnswer answer, const PolicyRequest& request,
                              const PolicyQuestion& question, PolicyVerdict& verdict) {
    if (answer.outcome != PolicyAnswer::Outcome::decided) {
        if (!question.dry_run) take_failure(policy, answer, request, verdict);
        return;
    }
    if (!question.dry_run) policy.breaker.note_success();
    const auto& book = book_of(policy);
    auto known = book.states.find(verdict.session_);
    const bool is_new = !answer.state.empty() && (known == book.states.end() || known->second != answer.state);
    if (is_new && !verdict.session_.empty()) verdict.states_.push_back({policy.identity.name, answer.state});
    using enum PolicyJudgement::Effect;
    const bool shadow = is_shadow_for(policy, session_of(request).tenant);
    PolicyJudgement judged{policy.identity.name, verdict.point_, action_of(answer.decision),
                           shadow ? shadowed : applied};
    if (is_standard(answer.decision)) return judge(judged, question.dry_run);
    if (shadow) {
        ++policy.shadowed;
        judge(judged, question.dry_run);
        return tell(policy, "policy.shadowed", answer, request, nullptr, verdict);
    }
    if (auto why = take_place(answer.decision, request, question, verdict)) {
        if (question.dry_run) return;
        ++policy.overruled;
        judged.effect = overruled;
        judge(judged, false);
        return tell(policy, "policy.overruled", answer, request, why, verdict);
    }
    verdict.decision = answer.decision;
    // To keep a session is done by doing nothing; what acts is done when it is recorded.
    if (judged.answer == name_of(SessionAction::keep)) judge(judged, question.dry_run);
    else if (!question.dry_run) verdict.judged_ = judged;
    verdict.by = policy.identity;
    tell(policy, "policy.decided", answer, request, nullptr, verdict);
}

void PolicyEngine::Impl::judge(const PolicyJudgement& judged, bool dry_run) const {
    if (!dry_run && options.on_judged) options.on_judged(judged);
}

void PolicyEngine::Impl::take_failure(LoadedPolicy& policy, const PolicyAnswer& answer, const PolicyRequest& request,
                                      PolicyVerdict& verdict) {
    policy.breaker.note_failure(env.clock->monotonic_now());
    ++policy.failed;
    policy.last_failure = std::string(name_of(answer.outcome)) + ": " + answer.detail;
    policy.last_failure_at = now();
    judge({policy.identity.name, verdict.point_, name_of(answer.outcome), PolicyJudgement::Effect::failed}, false);
    tell(policy, "policy.failed", answer, request, nullptr, verdict);
    env.logger->log(LogLevel::warning, "policy", "a policy gave no answer that counts",
                    {{"policy", policy.identity.name},
                     {"point", name_of(point_of(request))},
                     {"session", verdict.session_},
                     {"outcome", name_of(answer.outcome)},
                     {"detail", answer.detail}});
}

/// Why it may not be carried out; a stop takes its place within the rate limit.
const char* PolicyEngine::Impl::take_place(const PolicyDecision& decision, const PolicyRequest& request,
                                           const PolicyQuestion& question, PolicyVerdict& verdict) {
    if (auto why = policy::obstacle_to(decision, request, question)) return why;
    if (question.dry_run || !policy::is_stop(decision, request)) return nullptr;
    // What is not safe is stopped, however many that are.
    if (verdict.point_ == DecisionPoint::isolation) {
        verdict.stops_ = true;
        return nullptr;
    }
    if (!stop_limit->try_take(now(), question.running)) return "rate_limit";
    verdict.stops_ = true;
    verdict.place_ = std::shared_ptr<void>(nullptr, [limit = stop_limit](void*) { limit->give_back(); });
    return nullptr;
}

/// One event, unless it changes nothing and was the last one told of this session at this point.
void PolicyEngine::Impl::tell(LoadedPolicy& policy, const char* type, const PolicyAnswer& answer,
                              const PolicyRequest& request, const char* why, PolicyVerdict& verdict) {
    const auto point = point_of(request);
    const auto& session = session_of(request);
    json data{{"policy", policy.identity},
              {"point", name_of(point)},
              {"mode", name_of(policy.source.mode)},
              {"action", action_of(answer.decision)},
              {"decision", json::parse(infrastructure_sdk::to_json(answer.decision))},
              {"reason", reason_of(answer.decision)},
              {"user_id", session.user_id}};
    if (!session.tenant.empty()) data["tenant"] = session.tenant;
    if (why) data["why"] = why;
    if (answer.outcome != PolicyAnswer::Outcome::decided) {
        data["outcome"] = name_of(answer.outcome);
        data["detail"] = answer.detail;
    }
    std::optional<std::string> said;
    if (is_of_running(point) && !session.id.empty()) {
        // Texts hold numbers that change from minute to minute.
        const std::string action = action_of(answer.decision);
        const bool acts = type == std::string("policy.decided") && (action == "suspend" || action == "terminate");
        said = acts ? std::string() : std::string(type) + " " + action + " " + name_of(answer.outcome);
        const auto& told = book_of(policy).told;
        auto last = told.find({session.id, point});
        if (!acts && last != told.end() && last->second == *said) return;
    }
    Event event{0, now(), type, session.id, "", "", one_line(data)};
    verdict.news_.push_back({policy.identity.name, std::move(said), std::move(event)});
}

void PolicyEngine::record(PolicyVerdict& verdict, Batch& batch) {
    auto& impl = *impl_;
    const auto& session = verdict.session_;
    for (auto& state : verdict.states_) {
        batch.puts.push_back({policy_state_kind, session + "/" + state.policy, state.json, std::nullopt});
        impl.books[state.policy].states[session] = std::move(state.json);
    }
    for (auto& news : verdict.news_) {
        if (news.said) impl.books[news.policy].told[{session, verdict.point_}] = std::move(*news.said);
        batch.events.push_back(std::move(news.event));
    }
    auto by = verdict.by ? impl.find(verdict.by->name) : nullptr;
    if (by) ++by->decided;
    if (verdict.judged_) impl.judge(*verdict.judged_, false);
    verdict.judged_.reset();
    if (verdict.stops_) impl.note_stop(verdict, batch);
    verdict.states_.clear();
    verdict.news_.clear();
    verdict.stops_ = false;
    verdict.place_.reset();
}

/// The stops of one session: `first` is the oldest, `last` is behind the newest.
auto PolicyEngine::Impl::stops_of(const std::string& session) {
    // '0' is the character behind '/'.
    return std::pair(stops.lower_bound(session + "/"), stops.lower_bound(session + "0"));
}

void PolicyEngine::Impl::note_stop(const PolicyVerdict& verdict, Batch& batch) {
    forget_old_stops(batch);
    const auto& session = verdict.session_;
    auto [first, last] = stops_of(session);
    const auto number = first == last ? 1 : std::stoull(std::prev(last)->first.substr(session.size() + 1)) + 1;
    // As wide as they get, so that they are in order.
    const auto digits = std::to_string(number);
    const auto id = session + "/" + std::string(20 - digits.size(), '0') + digits;
    const bool suspends = std::get<SessionDecision>(verdict.decision).action == SessionAction::suspend;
    PolicyStop stop{verdict.by->name, verdict.by->sha256, now(), suspends, false};
    batch.puts.push_back({policy_stop_kind, id, one_line(json(stop)), std::nullopt});
    stops[id] = std::move(stop);
    stop_limit->note(now());
}

void PolicyEngine::overrule(PolicyVerdict& verdict, const std::string& why) {
    if (!verdict.by) return;
    for (auto& [name, said, event] : verdict.news_) {
        if (event.type != "policy.decided") continue;
        event.type = "policy.overruled";
        auto data = json::parse(event.data);
        data["why"] = why;
        event.data = one_line(data);
    }
    if (auto policy = impl_->find(verdict.by->name)) ++policy->overruled;
    if (auto judged = std::exchange(verdict.judged_, std::nullopt)) {
        judged->effect = PolicyJudgement::Effect::overruled;
        impl_->judge(*judged, false);
    }
    verdict.decision = standard_decision(verdict.point_);
    verdict.ask_again_after = {};
    verdict.by.reset();
    verdict.stops_ = false;
    verdict.place_.reset();
}

/// A few at a time, so that no commit becomes large.
void PolicyEngine::Impl::forget_old_stops(Batch& batch) {
    constexpr std::size_t most = 8;
    const auto oldest = now() - std::max(options.guard.window, options.rate_limit.window);
    std::vector<std::string> old;
    for (auto it = stops.begin(); it != stops.end() && old.size() < most; ++it)
        if (it->second.at < oldest) old.push_back(it->first);
    for (const auto& id : old) {
        batch.erases.push_back({policy_stop_kind, id});
        stops.erase(id);
    }
}

/// Its suspensions within the guard's window, and how many of them came back at once.
std::pair<std::size_t, std::size_t> PolicyEngine::Impl::stopped_by(const LoadedPolicy& policy) const {
    const auto oldest = now() - options.guard.window;
    std::size_t suspensions = 0, came_back = 0;
    for (const auto& [session, stop] : stops) {
        if (stop.policy != policy.identity.name || stop.sha256 != policy.identity.sha256 || stop.at < oldest) continue;
        if (!stop.suspends) continue;
        ++suspensions;
        came_back += stop.came_back;
    }
    return {suspensions, came_back};
}

void PolicyEngine::note_resumed(const std::string& session_id, Batch& batch) {
    auto& impl = *impl_;
    auto [first, last] = impl.stops_of(session_id);
    if (first == last) return;
    auto& [id, stop] = *std::prev(last);
    if (stop.came_back || !stop.suspends) return;
    if (impl.now() - stop.at > impl.options.guard.resumed_within) return;
    stop.came_back = true;
    batch.puts.push_back({policy_stop_kind, id, one_line(json(stop)), std::nullopt});
    auto policy = impl.find(stop.policy);
    if (!policy || policy->source.mode != PolicyMode::canary || impl.is_rolled_back(*policy)) return;
    auto [suspensions, came_back] = impl.stopped_by(*policy);
    if (!policy::trips(impl.options.guard, suspensions, came_back)) return;
    impl.book_of(*policy).rolled_back_sha256 = policy->identity.sha256;
    ++impl.revision;
    impl.write_book(policy->identity.name, batch);
    json data{{"policy", policy->identity},
              {"suspensions", suspensions},
              {"came_back", came_back},
              {"reason", "too many of the sessions that it suspended were resumed at once"}};
    batch.events.push_back(impl.event_of(*policy, "policy.rolled_back", one_line(data)));
}

void PolicyEngine::forget(const std::string& session_id, Batch& batch) {
    for (const auto& [name, book] : impl_->books)
        if (book.states.contains(session_id)) batch.erases.push_back({policy_state_kind, session_id + "/" + name});
}

void PolicyEngine::note_forgotten(const std::string& session_id) {
    for (auto& [name, book] : impl_->books) {
        book.states.erase(session_id);
        auto first = book.told.lower_bound({session_id, DecisionPoint::admit});
        while (first != book.told.end() && first->first.first == session_id) first = book.told.erase(first);
    }
}

}  // namespace infrastructure_sdk
