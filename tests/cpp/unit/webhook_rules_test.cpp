// What deliveries are, and what answers to them mean. No store, no network, no clock.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

#include "core/hmac.hpp"
#include "core/seeded_random.hpp"
#include "support/temporary_directory.hpp"
#include "webhooks/delivery_queue.hpp"
#include "webhooks/delivery_rules.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;
using Action = DeliveryVerdict::Action;

const WallTime noon = parse_rfc3339("2026-01-02T12:00:00Z");
constexpr const char* a_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
constexpr const char* another_secret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

Webhook a_webhook() {
    Webhook webhook;
    webhook.name = "ops";
    webhook.url = "https://example.org/hook";
    webhook.secret = Secret(a_secret);
    return webhook;
}

Event an_event(std::uint64_t sequence = 7, const std::string& type = "session.lifecycle.ready") {
    return {sequence, noon - 1s, type, "s-1", "x-1", "request-7", R"({"from":"provisioning","to":"active"})"};
}

std::string hex(const std::string& bytes) {
    std::string text;
    for (unsigned char c : bytes) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", c);
        text += two;
    }
    return text;
}

TEST(Hmac, GivesTheKnownAnswersOfRfc4231) {
    EXPECT_EQ(hex(hmac_sha256(std::string(20, '\x0b'), "Hi There")),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(hex(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(WebhookSignature, GivesTheKnownAnswerOfStandardWebhooks) {
    auto webhook = a_webhook();
    auto sign = [&] {
        return webhook_signature(webhook, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})");
    };
    const std::string known = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    EXPECT_EQ(sign(), known);
    webhook.previous_secret = Secret(another_secret);
    EXPECT_THAT(sign(), AllOf(HasSubstr(known + " v1,"), Not(HasSubstr(known + " " + known))));
}

TEST(WebhookKey, IsTakenFromASecretOfTheRightLengthOnly) {
    EXPECT_EQ(webhook_key(Secret(a_secret))->size(), 24u);
    for (const char* text : {"", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_hunter2", "whsec_c2hvcnQ="})
        EXPECT_EQ(webhook_key(Secret(text)), std::nullopt) << text;
}

TEST(WebhookEvents, AreChosenByPattern) {
    struct Row {
        const char *pattern, *type;
        bool match;
    };
    const Row rows[] = {
        {"*", "anything", true},
        {"session.lifecycle.*", "session.lifecycle.ready", true},
        {"session.lifecycle.*", "session.lifecycle.a.b", true},
        {"session.lifecycle.*", "session.lifecycle", false},
        {"session.lifecycle.*", "session.lifecycles.ready", false},
        {"session.lifecycle.ready", "session.lifecycle.ready", true},
        {"session.lifecycle.ready", "session.lifecycle.ready.x", false},
        {"session.lifecycle", "session.lifecycle.ready", false},
    };
    for (const auto& row : rows) {
        EXPECT_TRUE(is_event_pattern(row.pattern));
        EXPECT_EQ(matches_event(row.pattern, row.type), row.match) << row.pattern << " " << row.type;
    }
    for (const char* wrong : {"", ".", "a.", ".a", "a..b", "*.a", "a*", "a.*.b", "**", "a b", ".*", "a.b*"})
        EXPECT_FALSE(is_event_pattern(wrong)) << wrong;
}

TEST(WebhookDelivery, SaysWhatHappenedToWhom) {
    auto delivery = plan_delivery(a_webhook(), an_event(), noon);
    EXPECT_EQ(json::parse(delivery.body),
              json::parse(R"({"id": ")" + delivery.id + R"(", "type": "session.lifecycle.ready", "version": 1,
                "timestamp": "2026-01-02T11:59:59.000000000Z", "session_id": "s-1", "execution_id": "x-1",
                "sequence": 7, "data": {"from": "provisioning", "to": "active"}})"));
    EXPECT_EQ(delivery.state, DeliveryState::pending);
    EXPECT_EQ(delivery.due_at, noon);
    EXPECT_EQ(delivery.max_attempts, 10);
    auto event = an_event();
    event.data = "not json";
    EXPECT_EQ(json::parse(plan_delivery(a_webhook(), event, noon).body)["data"], json::object());
}

TEST(WebhookDelivery, HasAnIdThatIsStableUniqueAndSortsAsTheEvents) {
    auto id_of = [](const Webhook& webhook, const Event& event) { return plan_delivery(webhook, event, noon).id; };
    auto id = id_of(a_webhook(), an_event());
    EXPECT_EQ(id, plan_delivery(a_webhook(), an_event(), noon + 1h).id);
    EXPECT_EQ(id.find('.'), std::string::npos);
    auto other = a_webhook();
    other.name = "audit";
    EXPECT_NE(id, id_of(other, an_event()));
    // The same number in another installation.
    auto elsewhere = an_event();
    elsewhere.subject = "s-2";
    EXPECT_NE(id, id_of(a_webhook(), elsewhere));
    for (std::uint64_t n : {1u, 9u, 10u, 255u, 256u, 99999u})
        EXPECT_LT(id_of(a_webhook(), an_event(n)), id_of(a_webhook(), an_event(n + 1)));
}

TEST(WebhookDelivery, IsStoredAndReadBack) {
    auto delivery = plan_delivery(a_webhook(), an_event(), noon);
    AttemptOutcome outcome{500, {}, ""};
    delivery = after_attempt(delivery, outcome, judge(outcome, 1, 10, 0.5), noon);
    EXPECT_EQ(json(delivery_from_json(json(delivery))), json(delivery));
    const json whole = delivery;
    for (const auto& field : whole.items()) {
        auto broken = whole;
        broken.erase(field.key());
        EXPECT_THROW(delivery_from_json(broken), Error) << field.key();
    }
}

TEST(RetryAfter, IsSecondsOrADate) {
    EXPECT_EQ(parse_retry_after("120", noon), 120s);
    EXPECT_EQ(parse_retry_after("0", noon), 0s);
    EXPECT_EQ(parse_retry_after("Fri, 02 Jan 2026 12:01:00 GMT", noon), 60s);
    EXPECT_EQ(parse_retry_after("Fri, 02 Jan 2026 11:00:00 GMT", noon), 0s);
    for (const char* text : {"", "-1", "1.5", "soon", "99999999999", "Fri, 02 Foo 2026 12:01:00 GMT",
                             "Fri, 42 Jan 2026 12:01:00 GMT", "Fri, 02 Jan 2026 12:01:00 GMT x", "2026-01-02"})
        EXPECT_EQ(parse_retry_after(text, noon), std::nullopt) << text;
}

TEST(RetryDelay, GrowsByFourUpToEightHours) {
    const Duration full[] = {5s, 20s, 80s, 320s, 1280s, 5120s, 20480s, 8h, 8h};
    for (int i = 0; i < 9; ++i) {
        EXPECT_EQ(retry_delay(i + 1, 1.0), full[i]);
        EXPECT_EQ(retry_delay(i + 1, 0.0), full[i] / 2);
    }
    EXPECT_EQ(retry_delay(100, 1.0), 8h);
}

TEST(DeliveryVerdict, FollowsTheAnswer) {
    struct Row {
        AttemptOutcome outcome;
        int attempts;
        DeliveryVerdict verdict;
    };
    const Row rows[] = {
        {{200, {}, ""}, 1, {Action::delivered, {}, false}}, {{299, 5s, ""}, 3, {Action::delivered, {}, false}},
        {{302, {}, ""}, 1, {Action::retry, 5s, false}},     {{404, {}, ""}, 2, {Action::retry, 20s, false}},
        {{500, 1h, ""}, 1, {Action::retry, 5s, false}},     {{0, {}, "no"}, 1, {Action::retry, 5s, false}},
        {{0, {}, "no"}, 3, {Action::give_up, 80s, false}},  {{410, {}, ""}, 1, {Action::disable, {}, false}},
        {{429, {}, ""}, 1, {Action::retry, 5s, false}},     {{429, 1min, ""}, 1, {Action::retry, 1min, true}},
        {{503, 1s, ""}, 1, {Action::retry, 5s, true}},      {{503, 1000h, ""}, 1, {Action::retry, 24h, true}},
        {{503, 0s, ""}, 1, {Action::retry, 5s, false}},     {{503, 1min, ""}, 3, {Action::give_up, 80s, true}},
    };
    for (const auto& row : rows) {
        auto verdict = judge(row.outcome, row.attempts, 3, 1.0);
        EXPECT_EQ(verdict, row.verdict) << row.outcome.status << " attempt " << row.attempts;
    }
}

TEST(DeliveryVerdict, EveryDeliveryEndsWithinItsAttempts) {
    SeededRandom random(11);
    for (int round = 0; round < 2000; ++round) {
        auto delivery = plan_delivery(a_webhook(), an_event(), noon);
        delivery.max_attempts = 1 + static_cast<int>(random.below(12));
        auto now = noon;
        int attempts = 0;
        while (delivery.state == DeliveryState::pending) {
            ASSERT_LT(attempts++, delivery.max_attempts);
            const int statuses[] = {0, 302, 404, 429, 500, 503};
            AttemptOutcome outcome{statuses[random.below(6)], {}, "no answer"};
            if (random.chance(300'000)) outcome.retry_after = std::chrono::seconds(random.below(1'000'000));
            auto verdict = judge(outcome, delivery.attempts + 1, delivery.max_attempts, 0.001 * random.below(1001));
            delivery = after_attempt(delivery, outcome, verdict, now);
            EXPECT_FALSE(delivery.last_error.empty());
            if (delivery.state != DeliveryState::pending) break;
            EXPECT_GE(delivery.due_at, now + 2500ms);
            EXPECT_LE(delivery.due_at, now + 24h);
            now = delivery.due_at;
        }
        EXPECT_EQ(delivery.state, DeliveryState::dead);
        EXPECT_EQ(delivery.attempts, delivery.max_attempts);
        EXPECT_EQ(delivery.finished_at, now);
    }
}

TEST(DeliveryQueue, BeginsTheOldestOfEachSession) {
    DeliveryQueue queue(2);
    queue.add("1", "a", noon);
    queue.add("2", "a", noon);
    queue.add("3", "b", noon);
    queue.add("4", "c", noon);
    EXPECT_EQ(queue.begin(noon - 1s), std::nullopt);
    EXPECT_EQ(queue.begin(noon), "1");
    EXPECT_EQ(queue.begin(noon), "3");
    EXPECT_EQ(queue.begin(noon), std::nullopt) << "two at once";
    EXPECT_EQ(queue.next_due(), std::nullopt);
    queue.finish("3");
    EXPECT_EQ(queue.begin(noon), "4") << "2 waits for 1";
    queue.retry("1", noon + 1min);
    EXPECT_EQ(queue.begin(noon), "2");
    queue.finish("2");
    queue.finish("4");
    EXPECT_EQ(queue.next_due(), noon + 1min);
    queue.hold(noon + 2min);
    queue.hold(noon + 1s);
    EXPECT_EQ(queue.next_due(), noon + 2min);
    EXPECT_EQ(queue.begin(noon + 1min), std::nullopt);
    EXPECT_EQ(queue.begin(noon + 2min), "1");
    EXPECT_FALSE(queue.remove("1"));
    queue.finish("1");
    EXPECT_EQ(queue.size(), 0u);
    EXPECT_EQ(queue.under_way(), 0u);
}

TEST(DeliveryQueue, IsNotHeldUpByAClockThatIsSetBack) {
    DeliveryQueue queue(2);
    queue.add("1", "a", noon + 24h);
    queue.hold(noon + 24h);
    EXPECT_EQ(queue.begin(noon), std::nullopt);
    EXPECT_EQ(queue.begin(noon - 240h), "1");
}

TEST(DeliveryQueue, NeverForgetsNorDoublesWhateverHappens) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        SeededRandom random(seed);
        DeliveryQueue queue(1 + random.below(4));
        std::map<std::string, std::string> waiting, begun;  // id to subject
        auto now = noon;
        for (int step = 0; step < 200; ++step) {
            now += std::chrono::seconds(random.below(3));
            auto pick = [&](const auto& from) {
                return std::next(from.begin(), static_cast<long>(random.below(from.size())))->first;
            };
            switch (random.below(5)) {
                case 0: {
                    auto id = std::to_string(step),
                         subject = random.below(4) == 0 ? "" : std::to_string(random.below(3));
                    queue.add(id, subject, now + std::chrono::seconds(random.below(5)) - 2s);
                    waiting[id] = subject;
                    break;
                }
                case 1:
                    if (auto id = queue.begin(now)) {
                        ASSERT_TRUE(waiting.contains(*id));
                        for (const auto& other : begun)
                            ASSERT_TRUE(other.second.empty() || other.second != waiting[*id]);
                        begun[*id] = waiting[*id];
                        waiting.erase(*id);
                    } else if (auto due = queue.next_due()) {
                        ASSERT_GT(*due, now) << "something was due and not begun";
                    }
                    break;
                case 2:
                    if (!begun.empty()) {
                        auto id = pick(begun);
                        queue.finish(id);
                        begun.erase(id);
                    }
                    break;
                case 3:
                    if (!begun.empty()) {
                        auto id = pick(begun);
                        queue.retry(id, now + std::chrono::seconds(random.below(5)));
                        waiting[id] = begun[id];
                        begun.erase(id);
                    }
                    break;
                default:
                    if (!waiting.empty() && random.below(4) == 0) {
                        auto id = pick(waiting);
                        ASSERT_TRUE(queue.remove(id));
                        waiting.erase(id);
                    }
            }
            ASSERT_EQ(queue.size(), waiting.size() + begun.size());
            ASSERT_EQ(queue.under_way(), begun.size());
        }
        // All that is left is begun in the end.
        for (auto& [id, subject] : begun) queue.finish(id);
        now += 1h;
        while (auto id = queue.begin(now)) {
            ASSERT_EQ(waiting.erase(*id), 1u);
            queue.finish(*id);
        }
        ASSERT_TRUE(waiting.empty());
    }
}

class WebhooksDocument : public testing::Test {
protected:
    WebhooksDocument() {
        write("good", a_secret);
        write("short", "whsec_c2hvcnQ=");
    }
    void write(const std::string& name, const std::string& text) {
        std::ofstream(directory_ / name) << text << "\n";
        std::filesystem::permissions(directory_ / name, std::filesystem::perms(0600));
    }
    std::string good() const { return "secret: file:" + (directory_ / "good"); }
    std::string refused(const std::string& yaml) {
        try {
            parse_webhooks(yaml, "hooks.yaml");
            return "taken";
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            return error.message();
        }
    }
    test::TemporaryDirectory directory_;
};

TEST_F(WebhooksDocument, IsRead) {
    auto list =
        parse_webhooks("webhooks:\n- name: ops\n  url: https://example.org/hook?token=x\n  " + good() +
                           "\n- name: audit\n  url: http://10.0.0.7:8080\n  " + good() + "\n  previous_" + good() +
                           "\n  events: [session.lifecycle.*, vm.lost]\n  max_attempts: 3\n  timeout: 2s\n"
                           "  ca_file: /etc/ca.pem\n",
                       "hooks.yaml");
    ASSERT_EQ(list.size(), 2u);
    EXPECT_EQ(list[0].name, "ops");
    EXPECT_EQ(list[0].url, "https://example.org/hook?token=x");
    EXPECT_EQ(list[0].secret.reveal(), a_secret);
    EXPECT_TRUE(list[0].previous_secret.empty());
    EXPECT_EQ(list[0].events, std::vector<std::string>{"*"});
    EXPECT_EQ(list[0].max_attempts, 10);
    EXPECT_EQ(list[0].timeout, 15s);
    EXPECT_EQ(list[1].events, (std::vector<std::string>{"session.lifecycle.*", "vm.lost"}));
    EXPECT_EQ(list[1].max_attempts, 3);
    EXPECT_EQ(list[1].timeout, 2s);
    EXPECT_EQ(list[1].ca_file, "/etc/ca.pem");
    EXPECT_FALSE(list[1].previous_secret.empty());
    EXPECT_TRUE(parse_webhooks("webhooks: []", "hooks.yaml").empty());
}

TEST_F(WebhooksDocument, EveryFaultIsToldWithItsPlace) {
    auto said = refused(
        "webhooks:\n- name: Ops\n  url: ftp://h\n  secret: whsec_hunter2\n  events: [a..b]\n"
        "  max_attempts: 0\n  timeot: 2s\n- url: https://user:hunter2@h/\n  secret: env:NO_SUCH_NAME_HERE\n"
        "- name: c\n  url: http://h\n  secret: file:" +
        (directory_ / "short") + "\n- 7\n");
    for (const char* part :
         {"hooks.yaml:2: webhooks[0].name", "hooks.yaml:3: webhooks[0].url = 'ftp://h': the scheme",
          "webhooks[0].secret: a secret is given by reference", "env:NAME or file:/path",
          "hooks.yaml:5: webhooks[0].events = 'a..b'", "webhooks[0].max_attempts", "did you mean 'webhooks[0].timeout'",
          "webhooks[1].name: it is missing", "hooks.yaml:8: webhooks[1].url = 'https://***@h/***': a user name",
          "webhooks[1].secret: the environment variable 'NO_SUCH_NAME_HERE' is not set",
          "webhooks[2].secret: it is not such a secret", "openssl rand -base64 32", "webhooks[3]"})
        EXPECT_THAT(said, HasSubstr(part));
    EXPECT_THAT(said, Not(HasSubstr("hunter2")));
    EXPECT_THAT(said, Not(HasSubstr("c2hvcnQ")));
}

TEST_F(WebhooksDocument, NamesAreUniqueAndAListIsNeeded) {
    auto one = "- name: ops\n  url: http://h\n  " + good() + "\n";
    EXPECT_THAT(refused("webhooks:\n" + one + one),
                HasSubstr("webhooks[1].name = 'ops': another webhook has this name"));
    EXPECT_THAT(refused("webhooks:\n- name: ops\n  url: http://h\n  " + good() + "\n  events: []\n"),
                HasSubstr("no event"));
    EXPECT_THAT(refused("webhooks: {}"), HasSubstr("a list of webhooks"));
    EXPECT_THAT(refused("hooks: []"), HasSubstr("webhooks"));
    EXPECT_THAT(refused("[]"), HasSubstr("the document is a list"));
    EXPECT_THAT(refused(""), Not(HasSubstr("taken")));
}

}  // namespace
}  // namespace infrastructure_sdk
