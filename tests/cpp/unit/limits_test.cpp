// The words of admission: amounts, denials, documents.

#include <infrastructure_sdk/session/limits.hpp>

#include <limits>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <infrastructure_sdk/json.hpp>

#include "core/money.hpp"
#include "session/amounts.hpp"
#include "support/print_limits.hpp"

namespace infrastructure_sdk {
namespace {

using nlohmann::json;

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t gibibyte = 1ll << 30;

Amounts full() { return {1, 2000, 4 * gibibyte, 50 * gibibyte, 1, 500'000, 40'000'000}; }

Denial denial_of(Limit limit, std::string subject, std::int64_t in_use, std::int64_t requested,
                 std::vector<std::string> holders, std::size_t holder_count) {
    Denial denial;
    denial.limit = std::move(limit);
    denial.subject = std::move(subject);
    denial.in_use = in_use;
    denial.requested = requested;
    denial.holders = std::move(holders);
    denial.holder_count = holder_count;
    return denial;
}

std::string message_of(const std::string& yaml) {
    try {
        parse_limits(yaml, "l.yaml");
    } catch (const Error& error) {
        EXPECT_EQ(error.errc(), Errc::validation);
        return error.message();
    }
    return {};
}

std::string item(const std::string& fields) { return "limits:\n  - {" + fields + "}\n"; }
bool says(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

TEST(Money, IsExact) {
    EXPECT_EQ(parse_money("0.50"), 500'000);
    EXPECT_EQ(parse_money("40"), 40'000'000);
    EXPECT_EQ(parse_money("0.000001"), 1);
    EXPECT_EQ(parse_money("9223372036854.775807"), most);
    EXPECT_EQ(money_text(0), "0.00");
    EXPECT_EQ(money_text(500'000), "0.50");
    EXPECT_EQ(money_text(12'000'001), "12.000001");
    EXPECT_EQ(money_text(most), "9223372036854.775807");
}

TEST(Money, RoundTripsForSeededValues) {
    std::mt19937_64 random(13);
    for (int i = 0; i < 20'000; ++i) {
        auto micros = static_cast<std::int64_t>(random() >> (1 + random() % 62));
        EXPECT_EQ(parse_money(money_text(micros)), micros) << money_text(micros);
    }
}

TEST(Money, RefusesWhatIsNotInTheGrammarAndNamesTheField) {
    for (const char* text : {"", "-1", "+1", "$1", "1.", ".5", "0.0000001", "1e3", "1,5", " 1", "1.2.3", "0x1", "nan",
                             "9223372036854.775808", "99999999999999999999", "1.00.0"}) {
        try {
            parse_money(text, "money_per_hour");
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "money_per_hour");
            EXPECT_EQ(error.context().at("value"), text);
        }
    }
}

TEST(LimitWords, HaveTheirNames) {
    EXPECT_STREQ(name_of(LimitScope::user), "user");
    EXPECT_STREQ(name_of(LimitScope::tenant), "tenant");
    EXPECT_STREQ(name_of(LimitScope::host), "host");
    EXPECT_STREQ(name_of(LimitScope::template_), "template");
    std::string names;
    for (auto resource : limit_resources) names += std::string(name_of(resource)) + " ";
    EXPECT_EQ(names, "sessions cpu memory disk gpu money_per_hour money_per_month ");
}

TEST(Amounts, EachResourceHasItsOwnField) {
    Amounts amounts;
    std::int64_t value = 0;
    for (auto resource : limit_resources) amounts.of(resource) = ++value;
    EXPECT_EQ(amounts, (Amounts{1, 2, 3, 4, 5, 6, 7}));
}

TEST(Amounts, AreAddedAndTakenExactlyOrNotAtAll) {
    auto sum = full();
    sum += full();
    EXPECT_EQ(sum.cpu_milli, 4000);
    EXPECT_EQ(sum.money_per_month_micros, 80'000'000);
    sum -= full();
    EXPECT_EQ(sum, full());
    for (auto resource : limit_resources) {
        auto big = full();
        big.of(resource) = most;
        auto before = big;
        EXPECT_THROW(big += full(), Error) << name_of(resource);
        EXPECT_EQ(big, before) << name_of(resource);
        auto small = full();
        EXPECT_THROW(small -= big, Error) << name_of(resource);
        EXPECT_EQ(small, full()) << name_of(resource);
        Amounts negative;
        negative.of(resource) = -1;
        EXPECT_THROW(small += negative, Error) << name_of(resource);
        EXPECT_THROW(small -= negative, Error) << name_of(resource);
    }
}

TEST(Amounts, AreComparedInEveryResourceAtOnce) {
    auto more = full(), other = full();
    more.gpus = 2;
    other.sessions = 2;
    EXPECT_TRUE(full() <= full() && full() < more && more > full());
    EXPECT_FALSE(more <= other);
    EXPECT_FALSE(other <= more);
    EXPECT_NE(more, other);
}

TEST(HeldBy, TheTableIsExactlyThis) {
    const Amounts kept{1, 0, 0, 50 * gibibyte, 0, 0, 40'000'000};
    for (const char* name : {"pending", "provisioning", "active", "suspending", "resuming", "terminating"})
        EXPECT_EQ(held_by(parse_session_state(name), full()), full()) << name;
    for (const char* name : {"suspended", "failed"})
        EXPECT_EQ(held_by(parse_session_state(name), full()), kept) << name;
    EXPECT_EQ(held_by(SessionState::terminated, full()), Amounts{});
}

TEST(Denial, SaysWhichLimitItsValueItsUseAndByWhom) {
    EXPECT_EQ(
        denial_of({LimitScope::user, "*", LimitResource::sessions, 3}, "alice", 3, 1, {"s-1", "s-2", "s-3"}, 3)
            .message(),
        "the sessions limit of user 'alice' (as of every user) is 3: 3 in use, 1 requested; held by s-1, s-2, s-3; "
        "what would help: end one of them, or a higher limit");
    EXPECT_EQ(
        denial_of({LimitScope::tenant, "physics", LimitResource::cpu, 2500}, "physics", 2000, 1000, {"s"}, 12)
            .message(),
        "the cpu limit of tenant 'physics' is 2500m: 2 in use, 1 requested; held by s and 11 more; what would help: "
        "suspend or end one of them, or ask for less, or a higher limit");
    EXPECT_EQ(
        denial_of({LimitScope::host, "", LimitResource::memory, 16 * gibibyte}, "", 0, 32 * gibibyte, {}, 0).message(),
        "the memory limit of the host is 16Gi: 0 in use, 32Gi requested; what would help: ask for at most 16Gi, or a "
        "higher "
        "limit");
    EXPECT_EQ(denial_of({LimitScope::template_, "win", LimitResource::money_per_hour, 500'000}, "win", 450'000, 100'000,
                        {"s"}, 1)
                  .message(),
              "the money_per_hour limit of template 'win' is 0.50: 0.45 in use, 0.10 requested; held by s; what would "
              "help: suspend or end it, or "
              "a higher limit");
}

TEST(Denial, TheErrorsCodeFollowsFromTheLimit) {
    for (auto scope : limit_scopes)
        for (auto resource : limit_resources) {
            bool host = scope == LimitScope::host;
            std::string subject = host ? "" : "x";
            auto denial = denial_of({scope, subject, resource, 1}, subject, 1, 1, {"a", "b"}, 2);
            auto error = denial.to_error();
            auto expected = is_money(resource) ? Errc::budget_exceeded : host ? Errc::capacity : Errc::quota_exceeded;
            EXPECT_EQ(error.errc(), expected) << denial.message();
            EXPECT_EQ(error.message(), denial.message());
            EXPECT_EQ(error.context().at("scope"), name_of(scope));
            EXPECT_EQ(error.context().at("resource"), name_of(resource));
            EXPECT_EQ(error.context().at("subject"), subject);
            EXPECT_EQ(error.context().at("limit"), amount_text(resource, 1));
            EXPECT_EQ(error.context().at("in_use"), amount_text(resource, 1));
            EXPECT_EQ(error.context().at("requested"), amount_text(resource, 1));
            EXPECT_EQ(error.context().at("holders"), "a, b");
            EXPECT_EQ(error.context().at("holder_count"), "2");
        }
}

TEST(Denial, TellsWhatWouldHelp) {
    auto help = [](LimitResource resource, std::int64_t value, std::int64_t requested, std::size_t holders) {
        return denial_of({LimitScope::user, "a", resource, value}, "a", value, requested, {}, holders).help();
    };
    using R = LimitResource;
    EXPECT_EQ(help(R::sessions, 0, 1, 0), "a higher limit; this one allows none at all");
    EXPECT_EQ(help(R::gpu, 2, 3, 1), "ask for at most 2, or a higher limit");
    EXPECT_EQ(help(R::disk, 10, 5, 2), "end one of them, delete snapshots or ask for less, or a higher limit");
    EXPECT_EQ(help(R::gpu, 2, 1, 1), "suspend or end it, or ask for less, or a higher limit");
    auto month = denial_of({LimitScope::user, "a", R::money_per_month, 10}, "a", 8, 20, {}, 0);
    month.currency = "EUR";
    month.spent = 8;
    month.renews_at = parse_rfc3339("2026-12-01T00:00:00Z");
    EXPECT_EQ(month.help(), "a shorter ttl, or wait until 2026-12-01, or a higher limit");
    EXPECT_EQ(month.message(),
              "the money_per_month limit of user 'a' is 0.00001 EUR: 0.000008 EUR in use, 0.00002 EUR requested; "
              "0.000008 EUR of it spent by sessions that have ended; what would help: " +
                  month.help());
    EXPECT_EQ(json(month)["renews_at"], "2026-12-01T00:00:00.000000000Z");
    EXPECT_EQ(json(month)["spent"], "0.000008");
    EXPECT_EQ(month.to_error().context().at("spent"), "0.000008");
}

TEST(LimitsDocument, EveryResourceIsReadInOrder) {
    auto limits = parse_limits(
        "limits:\n"
        "  - {scope: user, subject: \"*\", sessions: 3, cpu: \"4\", memory: 8Gi, disk: 100Gi, gpu: 1,"
        " money_per_hour: \"0.50\", money_per_month: \"40.00\"}\n"
        "  - {scope: tenant, subject: physics, sessions: 50}\n"
        "  - {scope: template, subject: win-11, gpu: 0}\n"
        "  - {scope: host, memory: 16Gi, cpu: 500m}\n",
        "l.yaml");
    using S = LimitScope;
    using R = LimitResource;
    const std::vector<Limit> expected{{S::user, "*", R::sessions, 3},
                                      {S::user, "*", R::cpu, 4000},
                                      {S::user, "*", R::memory, 8 * gibibyte},
                                      {S::user, "*", R::disk, 100 * gibibyte},
                                      {S::user, "*", R::gpu, 1},
                                      {S::user, "*", R::money_per_hour, 500'000},
                                      {S::user, "*", R::money_per_month, 40'000'000},
                                      {S::tenant, "physics", R::sessions, 50},
                                      {S::template_, "win-11", R::gpu, 0},
                                      {S::host, "", R::memory, 16 * gibibyte},
                                      {S::host, "", R::cpu, 500}};
    EXPECT_EQ(limits, expected);
}

TEST(LimitsDocument, JsonIsADocumentTooAndNoLimitsAreNone) {
    auto limits =
        parse_limits(R"({"limits": [{"scope": "host", "subject": "", "sessions": 2}], "x-note": 1})", "argument");
    EXPECT_EQ(limits, (std::vector<Limit>{{LimitScope::host, "", LimitResource::sessions, 2}}));
    EXPECT_TRUE(parse_limits("limits: []\n", "l.yaml").empty());
}

TEST(LimitsDocument, AllProblemsComeAtOnceWithTheirLines) {
    auto message = message_of(
        "limits:\n"
        "  - {scope: usr, subject: a, sessions: 1}\n"
        "  - {scope: user, subject: a, memori: 1Gi}\n"
        "  - {scope: user, sessions: -1}\n"
        "  - {scope: host, subject: a, cpu: -1}\n"
        "  - {scope: user, subject: a, money_per_hour: 0.5}\n"
        "  - {scope: user, subject: a, money_per_month: \"0.1234567\"}\n"
        "  - {subject: a, sessions: 1.5}\n"
        "  - {scope: tenant, subject: a, sessions:, gpu: \"\"}\n"
        "  - {scope: tenant, subject: b, sessions: 1}\n"
        "  - {scope: tenant, subject: b, sessions: 2}\n"
        "  - all\n"
        "limit: []\n");
    EXPECT_TRUE(says(message, "l.yaml:2: limits[0].scope = 'usr'")) << message;
    EXPECT_TRUE(says(message, "did you mean 'user'?")) << message;
    EXPECT_TRUE(says(message, "l.yaml:3: limits[1].memori: there is no such key; did you mean 'limits[1].memory'?"))
        << message;
    EXPECT_TRUE(says(message, "l.yaml:3: limits[1]: it limits nothing")) << message;
    EXPECT_TRUE(says(message, "l.yaml:4: limits[2].sessions = '-1': it is less than 0")) << message;
    EXPECT_TRUE(says(message, "l.yaml:4: limits[2].subject: it is missing; allowed: a user or \"*\"")) << message;
    EXPECT_TRUE(says(message, "l.yaml:5: limits[3].subject: the host has no subject")) << message;
    EXPECT_TRUE(says(message, "l.yaml:5: limits[3].cpu = '-1': it is negative")) << message;
    EXPECT_TRUE(says(message, "l.yaml:6: limits[4].money_per_hour = '0.5': it is a number; put it in quotes"))
        << message;
    EXPECT_TRUE(says(message,
                     "l.yaml:7: limits[5].money_per_month = '0.1234567': it is not such an amount; allowed: a "
                     "decimal with at most 6 digits"))
        << message;
    EXPECT_TRUE(says(message, "l.yaml:8: limits[6].scope: it is missing")) << message;
    EXPECT_TRUE(says(message, "l.yaml:8: limits[6].sessions = '1.5': it is a number")) << message;
    EXPECT_TRUE(says(message, "l.yaml:9: limits[7].sessions: it has no value")) << message;
    EXPECT_TRUE(says(message, "l.yaml:9: limits[7].gpu: it has no value")) << message;
    EXPECT_TRUE(says(message, "l.yaml:11: limits[9].sessions = '2': the same is limited at l.yaml:10 already"))
        << message;
    EXPECT_TRUE(says(message, "l.yaml:12: limits[10]: it is a text; allowed: a mapping of fields")) << message;
    EXPECT_TRUE(says(message, "l.yaml:13: limit: there is no such key; did you mean 'limits'?")) << message;
    EXPECT_TRUE(message.starts_with("16 problems in the limits l.yaml:")) << message;
}

TEST(LimitsDocument, AnythingElseIsRefused) {
    EXPECT_TRUE(says(message_of(""), "the document is nothing"));
    EXPECT_TRUE(says(message_of("- a\n"), "the document is a list"));
    EXPECT_TRUE(says(message_of("{}\n"), "limits: it is missing"));
    EXPECT_TRUE(says(message_of("limits:\n"), "limits: it is nothing; allowed: a list of limits"));
    EXPECT_TRUE(says(message_of("limits: {scope: host}\n"), "limits: it is a mapping"));
    EXPECT_TRUE(says(message_of("limits: [\n"), "l.yaml:"));
    EXPECT_TRUE(says(message_of(item("scope: user, scope: user, subject: a, sessions: 1")), "the key is there twice"));
    EXPECT_TRUE(says(message_of(item("scope: user, subject: 7, sessions: 1")), "put it in quotes"));
    EXPECT_TRUE(says(message_of(item("scope: user, subject: , sessions: 1")), "subject: it has no value"));
    EXPECT_TRUE(says(message_of(item("scope: host, sessions: 9223372036854775808")), "it is out of range"));
    EXPECT_TRUE(says(message_of(item("scope: host, memory: 9223372036854775807m")), "limits[0].memory"));
    EXPECT_TRUE(says(message_of(item("scope: host, money_per_hour: \"99999999999999\"")), "limits[0].money_per_hour"));
    EXPECT_EQ(message_of(item("scope: host, sessions: 9223372036854775807")), "");
}

TEST(LimitsDocument, AHostileOneIsRefusedWithoutRepeatingItAll) {
    std::string many = "limits:\n";
    for (int i = 0; i < 1000; ++i) many += "  - {scope: user, subject: a, sesions: 1}\n";
    EXPECT_TRUE(says(message_of(many), "more problems"));
    auto message = message_of(item("scope: user, subject: a, money_per_hour: \"" + std::string(4000, '9') + "\""));
    EXPECT_LT(message.size(), 500u);
    EXPECT_TRUE(says(message_of(item("scope: user, subject: \"a\\nb\", sessions: 1")), "control characters"));
}

TEST(LimitsJson, AReservationRoundTripsForSeededValues) {
    std::mt19937_64 random(17);
    for (int i = 0; i < 2000; ++i) {
        Reservation reservation{
            "s-" + std::to_string(i), "alice", i % 2 ? "physics" : "", "linux-tiny", i % 3 == 0, {}};
        for (auto resource : limit_resources) {
            bool bytes = resource == LimitResource::memory || resource == LimitResource::disk;
            auto amount = static_cast<std::int64_t>(random() >> (1 + random() % 62));
            reservation.amounts.of(resource) = bytes ? amount / 1000 : amount;
        }
        auto text = json(reservation).dump();
        EXPECT_EQ(reservation_from_json(json::parse(text)), reservation) << text;
    }
}

TEST(LimitsJson, DocumentsHaveTheNamesAndFormsOfALimitsDocument) {
    EXPECT_EQ(json(Reservation{"s-1", "alice", "physics", "linux-tiny", false, full()}),
              json::parse(R"({"session_id": "s-1", "user_id": "alice", "tenant": "physics", "template": "linux-tiny",
                  "warm": false, "gpu_type": "", "amounts": {"sessions": 1, "cpu": "2", "memory": "4Gi", "disk": "50Gi", "gpu": 1,
                  "money_per_hour": "0.50", "money_per_month": "40.00"}})"));
    Limit limit{LimitScope::user, "*", LimitResource::memory, 8 * gibibyte};
    EXPECT_EQ(json(limit), json::parse(R"({"scope": "user", "subject": "*", "resource": "memory", "value": "8Gi"})"));
    auto denial = denial_of(limit, "alice", 6 * gibibyte, 4 * gibibyte, {"s-1"}, 1);
    auto expected = json::parse(R"({"subject": "alice", "in_use": "6Gi", "requested": "4Gi", "holders": ["s-1"],
                                    "holder_count": 1, "code": "quota_exceeded"})");
    expected["limit"] = limit;
    expected["help"] = denial.help();
    expected["message"] = denial.message();
    EXPECT_EQ(json(denial), expected);
    expected = json::parse(R"({"subject": "alice", "in_use": "6Gi", "free": "2Gi", "holder_count": 2,
                              "warm": "0", "spent": "0", "currency": ""})");
    expected["limit"] = limit;
    EXPECT_EQ(json(UsageLine{limit, "alice", 6 * gibibyte, 2 * gibibyte, 2}), expected);
    // A sum of bytes may be more than a quantity holds.
    limit = {LimitScope::host, "", LimitResource::disk, 1};
    EXPECT_EQ(json(UsageLine{limit, "", most, 0, 2})["in_use"], std::to_string(most));
}

TEST(LimitsJson, AWrongStoredReservationIsRefusedByName) {
    const json good = Reservation{"s-1", "alice", "", "linux-tiny", false, full()};
    auto refused = [&](const char* pointer, const json& value) {
        auto document = good;
        document[json::json_pointer(pointer)] = value;
        try {
            reservation_from_json(document);
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            return error.context().at("field");
        }
        return std::string("accepted");
    };
    EXPECT_EQ(reservation_from_json(good).user_id, "alice");
    EXPECT_EQ(refused("/session_id", 1), "session_id");
    EXPECT_EQ(refused("/warm", "yes"), "warm");
    EXPECT_EQ(refused("/gpu_type", 1), "gpu_type");
    EXPECT_EQ(refused("/amounts", json::array()), "amounts");
    EXPECT_EQ(refused("/amounts/sessions", -1), "amounts.sessions");
    EXPECT_EQ(refused("/amounts/sessions", 1.5), "amounts.sessions");
    EXPECT_EQ(refused("/amounts/gpu", 18446744073709551615u), "amounts.gpu");
    EXPECT_EQ(refused("/amounts/cpu", 2), "amounts.cpu");
    EXPECT_EQ(refused("/amounts/memory", "4Gb"), "amounts.memory");
    EXPECT_EQ(refused("/amounts/disk", "-1"), "amounts.disk");
    EXPECT_EQ(refused("/amounts/money_per_hour", "0.0000001"), "amounts.money_per_hour");
    EXPECT_THROW(reservation_from_json(json::array()), Error);
    for (const auto& [key, value] : good.items()) {
        auto without = good;
        without.erase(key);
        if (key == "gpu_type") {
            EXPECT_EQ(reservation_from_json(without).gpu_type, "") << "earlier releases did not write it";
            continue;
        }
        EXPECT_THROW(reservation_from_json(without), Error) << key;
    }
}

}  // namespace
}  // namespace infrastructure_sdk
