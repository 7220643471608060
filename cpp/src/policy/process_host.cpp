#include <infrastructure_sdk/policy/process_host.hpp>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "core/async_tools.hpp"
#include "core/sha256.hpp"
#include "policy/policy_process.hpp"
#include "policy/shallow_json.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr Duration first_pause = 100ms, longest_pause = 30s, start_budget = 10s, longest_budget = 24h;
constexpr unsigned good_answers = 100;  // after so many in a row earlier deaths are forgotten
constexpr unsigned many_deaths = 2;     // from then on it runs behind everybody else
constexpr std::size_t most_detail_bytes = 2000;

std::string shortened(std::string text) {
    if (text.size() > most_detail_bytes) text.resize(most_detail_bytes);
    return text;
}

/// An object with just these members, of these types; what else the process sends is a lie.
json parse_line(const std::string& line) {
    auto value = policy::parse_shallow_json(line);
    if (!value.is_object()) throw Error(Errc::policy, "its process sent no JSON object");
    return value;
}
std::string text_of(const json& object, const char* name) {
    auto found = object.find(name);
    if (found == object.end()) return {};
    if (!found->is_string()) throw Error(Errc::policy, std::string("its process sent no text as ") + name);
    return found->get<std::string>();
}
std::vector<std::string> texts_of(const json& object, const char* name) {
    std::vector<std::string> texts;
    auto found = object.find(name);
    if (found == object.end() || !found->is_array() || found->size() > 64)
        throw Error(Errc::policy, std::string("its process sent no list as ") + name);
    for (const auto& item : *found) {
        if (!item.is_string()) throw Error(Errc::policy, std::string("its process sent no texts as ") + name);
        texts.push_back(item.get<std::string>());
    }
    return texts;
}

/// What the process says of the policy when it has loaded it. The hash is not for it to tell.
struct Ready {
    PolicyIdentity identity;
    std::vector<DecisionPoint> points;
    std::vector<std::string> missing;
    bool operator==(const Ready&) const = default;
};

/// @throws Error(policy), with what the process says is wrong
Ready parse_ready(const std::string& line) {
    auto value = parse_line(line);
    auto code = text_of(value, "unsupported");
    if (!code.empty()) throw Error(Errc::unsupported, code, {{"capability", "policy sandbox"}});
    if (value.contains("error"))
        throw Error(Errc::policy, shortened("the policy was not taken: " + text_of(value, "error")),
                    {{"field", "policy"}});
    Ready ready;
    ready.identity = {text_of(value, "name"), text_of(value, "version"), text_of(value, "author"), ""};
    for (const auto& name : texts_of(value, "points")) ready.points.push_back(parse_decision_point(name));
    ready.missing = texts_of(value, "missing");
    return ready;
}

/// @throws Error(policy) for what is no answer to this question
PolicyAnswer parse_answer(const std::string& line, const PolicyRequest& request, std::uint64_t id) {
    auto value = parse_line(line);
    auto point = point_of(request);
    auto answered = value.find("id");
    if (answered == value.end() || !answered->is_number_unsigned() || answered->get<std::uint64_t>() != id)
        throw Error(Errc::policy, "its process answered another question");
    if (value.contains("failed")) return not_decided(PolicyAnswer::Outcome::failed, point, text_of(value, "failed"));
    if (value.contains("invalid")) return not_decided(PolicyAnswer::Outcome::invalid, point, text_of(value, "invalid"));
    PolicyAnswer answer;
    try {
        answer.decision = policy_decision_from_json(point, value.value("decision", json()).dump());
        check(answer.decision, request);
    } catch (const Error& error) {
        return not_decided(PolicyAnswer::Outcome::invalid, point, error.message());
    }
    answer.state = text_of(value, "state");
    if (answer.state.size() > policy_state_limit)
        return not_decided(PolicyAnswer::Outcome::invalid, point, "its state is longer than 16 KiB");
    return answer;
}

/// Until `wake` is requested, the deadline or the stop of the call.
Task<void> sleep_within(std::shared_ptr<Clock> clock, std::stop_source wake, Call call) {
    std::stop_callback stopped(call.stop, [wake]() mutable { wake.request_stop(); });
    auto deadline = call.deadline.earlier(Deadline::after(*clock, longest_budget));
    co_await clock->sleep_until(deadline.when(), wake.get_token());
}

/// Ends a process that does not answer in time.
struct Watch {
    bool answered = false;
    std::stop_source wake;
};
Task<void> kill_when_overdue(std::shared_ptr<Clock> clock, std::shared_ptr<PolicyProcess> process,
                             std::shared_ptr<Watch> watch, Call call) {
    co_await sleep_within(clock, watch->wake, call);
    if (!watch->answered) process->kill();
}

/// A question whose turn has come. It goes on when its caller waits no more.
struct Question {
    PolicyRequest request;
    std::string state;
    Duration budget{};  ///< from when it is sent
    std::optional<PolicyAnswer> answer;
    std::stop_source finished;
};

class ProcessHost final : public ProcessPolicy, public std::enable_shared_from_this<ProcessHost> {
public:
    ProcessHost(Environment environment, std::string setup, std::string sha256, ProcessPolicyOptions options)
        : environment_(std::move(environment)),
          setup_(std::move(setup)),
          sha256_(std::move(sha256)),
          options_(std::move(options)),
          mutex_(environment_.executor),
          children_(environment_.executor) {}

    const PolicyIdentity& identity() const override { return ready_.identity; }
    std::vector<DecisionPoint> points() const override { return ready_.points; }
    std::vector<std::string> missing_protections() const override { return ready_.missing; }
    std::vector<std::string> protections() const override {
        std::vector<std::string> all{"limits", "network", "no_new_privs", "parent_death", "seccomp"};
        for (const auto& text : ready_.missing) std::erase(all, text.substr(0, text.find(':')));
        return all;
    }
    std::int64_t pid() const override { return process_ ? process_->pid() : 0; }

    /// @throws as load_process_policy
    Task<void> start(Call call) {
        auto options = options_;
        const bool is_last = deaths_ >= many_deaths;
        auto work = [options, is_last] { return start_policy_process(options, is_last); };
        auto started = co_await run_blocking(environment_.blocking, work);
        auto process = std::make_shared<PolicyProcess>(environment_.executor, environment_.blocking, started);
        auto line = co_await exchange(process, setup_, call);
        auto ready = parse_ready(line);
        ready.identity.sha256 = sha256_;
        ready.missing.insert(ready.missing.end(), started.missing.begin(), started.missing.end());
        std::sort(ready.missing.begin(), ready.missing.end());
        if (is_loaded_ && ready != ready_) throw Error(Errc::policy, "it calls itself something else than before");
        ready_ = std::move(ready);
        is_loaded_ = true;
        served_ = 0;
        is_last_ = is_last;
        process_ = std::move(process);
    }

    void tell_what_is_missing() const {
        if (ready_.missing.empty()) return;
        std::string all;
        for (const auto& text : ready_.missing) all += (all.empty() ? "" : "; ") + text;
        environment_.logger->log(LogLevel::warning, "policy",
                                 "an untrusted policy runs without protections that this host does not give",
                                 {{"policy", shortened(ready_.identity.name)}, {"missing", shortened(all)}});
    }

    Task<PolicyAnswer> decide(PolicyRequest request, std::string state, Call call) override {
        using enum PolicyAnswer::Outcome;
        auto self = shared_from_this();
        auto clock = environment_.clock;
        auto point = point_of(request);
        auto question = std::make_shared<Question>();
        question->request = std::move(request);
        question->state = std::move(state);
        question->budget = std::min(longest_budget, call.deadline.remaining(*clock));
        const bool is_asked = co_await begin(question, call);
        if (!is_asked)
            co_return not_decided(timed_out, point, "no answer within the time budget: others were asked first");
        co_await sleep_within(clock, question->finished, call);
        if (question->answer) co_return *question->answer;
        if (call.stop.stop_requested()) throw Error(Errc::cancelled, "the question to a policy was cancelled");
        co_return not_decided(timed_out, point, "no answer within the time budget");
    }

    Task<void> close() override {
        auto self = shared_from_this();
        closed_ = true;
        if (process_) process_->kill();
        process_.reset();
        children_.stop_source().request_stop();
        co_await children_.join();
    }

private:
    /// When its turn has come it goes on by itself. False when that was not within the deadline of the call.
    Task<bool> begin(std::shared_ptr<Question> question, Call call) {
        const auto& clock = *environment_.clock;
        try {
            check(call, clock, "a question to a policy");
            auto turn = co_await mutex_.lock(clock, call, "a question to a policy");
            children_.spawn(environment_.logger, "policy question",
                            serve(shared_from_this(), std::move(turn), question));
        } catch (const Error& error) {
            if (error.errc() != Errc::timeout) throw;
            co_return false;
        }
        co_return true;
    }

    /// A line there and the next one back. At the deadline or stop of the call the process is killed.
    Task<std::string> exchange(std::shared_ptr<PolicyProcess> process, std::string line, Call call) {
        auto watch = std::make_shared<Watch>();
        children_.spawn(environment_.logger, "policy watch",
                        kill_when_overdue(environment_.clock, process, watch, call));
        std::string answer;
        std::exception_ptr problem;
        try {
            co_await process->send(std::move(line));
            answer = co_await process->receive();
        } catch (const Error&) {
            problem = std::current_exception();
        } catch (const boost::system::system_error&) {
            problem = std::make_exception_ptr(gone(call));
        }
        watch->answered = true;
        watch->wake.request_stop();
        if (problem) std::rethrow_exception(problem);
        co_return answer;
    }

    Error gone(const Call& call) const {
        if (call.stop.stop_requested()) return Error(Errc::cancelled, "the loading of a policy was cancelled");
        if (call.deadline.expired(*environment_.clock)) return Error(Errc::timeout, "no answer within the time budget");
        return Error(Errc::policy, "its process ended");
    }

    /// Holds the turn until the process has answered or was ended: only a question that had its whole budget ends it.
    static Task<void> serve(std::shared_ptr<ProcessHost> self, AsyncMutex::Guard turn,
                            std::shared_ptr<Question> question) {
        auto held = std::move(turn);
        if (self->process_) co_await self->ask(question);
        else
            question->answer = not_decided(PolicyAnswer::Outcome::refused, point_of(question->request),
                                           "its process ended and is started anew");
        question->finished.request_stop();
    }

    Task<void> ask(std::shared_ptr<Question> question) {
        auto id = ++asked_;
        auto begun = environment_.clock->monotonic_now();
        Call call(Deadline::after(*environment_.clock, question->budget));
        try {
            auto line = json{{"id", id}, {"request", to_json(question->request)}, {"state", question->state}}.dump(
                -1, ' ', false, json::error_handler_t::replace);
            auto reply = co_await exchange(process_, std::move(line), call);
            question->answer = parse_answer(reply, question->request, id);
        } catch (const std::exception& error) {
            const auto* known = dynamic_cast<const Error*>(&error);
            auto outcome = known && known->errc() == Errc::timeout ? PolicyAnswer::Outcome::timed_out
                                                                   : PolicyAnswer::Outcome::failed;
            question->answer =
                not_decided(outcome, point_of(question->request), known ? known->message() : error.what());
            restart();
        }
        if (++served_ >= good_answers) {
            deaths_ = 0;
            if (is_last_ && !std::exchange(restarting_, true))
                children_.spawn(environment_.logger, "policy restart", start_in_front(shared_from_this()));
        }
        question->answer->took = environment_.clock->monotonic_now() - begun;
    }

    /// What runs is ended, and after a pause another one is begun.
    void restart() {
        if (process_) process_->kill();
        process_.reset();
        served_ = 0;
        if (closed_ || restarting_) return;
        restarting_ = true;
        children_.spawn(environment_.logger, "policy restart", start_again(shared_from_this()));
    }

    static Task<void> start_again(std::shared_ptr<ProcessHost> self) {
        auto& clock = *self->environment_.clock;
        auto stop = self->children_.stop_source().get_token();
        while (!self->closed_ && !self->process_) {
            auto pause = std::min(longest_pause, first_pause * (1u << std::min(self->deaths_++, 10u)));
            co_await clock.sleep_until(clock.monotonic_now() + pause, stop);
            if (self->closed_) break;
            Call call(Deadline::after(clock, start_budget), stop);
            try {
                co_await self->start(call);
            } catch (const std::exception&) {
                // The next pause is longer; questions are refused meanwhile.
            }
        }
        if (self->closed_) self->process_.reset();
        self->restarting_ = false;
    }

    /// Only a new process leaves the place behind everybody else. The one that runs is asked until the other is ready.
    static Task<void> start_in_front(std::shared_ptr<ProcessHost> self) {
        Call call(Deadline::after(*self->environment_.clock, start_budget), self->children_.stop_source().get_token());
        try {
            co_await self->start(call);
        } catch (const std::exception&) {
            // It is tried again after as many good answers.
            self->served_ = 0;
        }
        self->restarting_ = false;
        if (self->closed_) self->process_.reset();
        else if (!self->process_) self->restart();
    }

    Environment environment_;
    std::string setup_, sha256_;
    ProcessPolicyOptions options_;
    AsyncMutex mutex_;
    TaskGroup children_;
    Ready ready_;
    std::shared_ptr<PolicyProcess> process_;
    std::uint64_t asked_ = 0;
    unsigned deaths_ = 0, served_ = 0;
    bool is_loaded_ = false, is_last_ = false, restarting_ = false, closed_ = false;
};

}  // namespace

Task<std::shared_ptr<ProcessPolicy>> load_process_policy(Environment environment, std::string source,
                                                         std::string origin, ProcessPolicyOptions options, Call call) {
    auto sha256 = sha256_hex(source);
    json setup{{"source", std::move(source)},
               {"origin", std::move(origin)},
               {"memory_budget", options.memory_budget},
               {"lint", options.lint}};
    auto host = std::make_shared<ProcessHost>(environment, setup.dump(), std::move(sha256), std::move(options));
    std::exception_ptr problem;
    try {
        co_await host->start(call);
    } catch (const std::exception&) {
        problem = std::current_exception();
    }
    if (problem) {
        // What watched the process holds it: it is gone when this returns.
        co_await host->close();
        std::rethrow_exception(problem);
    }
    host->tell_what_is_missing();
    co_return host;
}

}  // namespace infrastructure_sdk
