// Durations, quantities, times, secrets, errors, log lines.

#include <gtest/gtest.h>

#include <random>

#include <nlohmann/json.hpp>

#include <infrastructure_sdk/duration.hpp>
#include <infrastructure_sdk/error.hpp>
#include <infrastructure_sdk/log.hpp>
#include <infrastructure_sdk/quantity.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {
namespace {
using namespace std::chrono_literals;

TEST(DurationText, IsExact) {
    EXPECT_EQ(parse_duration("1h30m"), 90min);
    EXPECT_EQ(parse_duration("1.5s"), 1500ms);
    EXPECT_EQ(parse_duration("0.000000001s"), 1ns);
    EXPECT_EQ(parse_duration("0"), 0ns);
    EXPECT_EQ(parse_duration("3\xc2\xb5s"), 3us);
    EXPECT_EQ(to_string(90min), "1h30m");
    EXPECT_EQ(to_string(0ns), "0s");
}

TEST(DurationText, RoundTripsForSeededValues) {
    std::mt19937_64 random(7);
    for (int i = 0; i < 20'000; ++i) {
        Duration value(static_cast<std::int64_t>(random() >> (1 + random() % 62)));
        EXPECT_EQ(parse_duration(to_string(value)), value) << to_string(value);
    }
}

TEST(DurationText, RefusesWhatIsNotInTheGrammarAndNamesTheField) {
    for (const char* text :
         {"", "-1s", "1", "1 s", " 1s", "s", "1.5.5s", "1e3s", "9999999h", "0.1ns", "1h-5m", ".", ".s", "+1s", "1S"}) {
        try {
            parse_duration(text, "ttl");
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.errc(), Errc::validation);
            EXPECT_EQ(error.context().at("field"), "ttl");
            EXPECT_EQ(error.context().at("value"), text);
        }
    }
}

TEST(QuantityText, IsExactAndRoundsUpLikeKubernetes) {
    EXPECT_EQ(Quantity::parse("500m").milli(), 500);
    EXPECT_EQ(Quantity::parse("500m").value(), 1);
    EXPECT_EQ(Quantity::parse("4Gi").value(), 4ll << 30);
    EXPECT_EQ(Quantity::parse("1.5G").value(), 1'500'000'000);
    EXPECT_EQ(Quantity::parse("1e3").value(), 1000);
    EXPECT_EQ(Quantity::parse("5e-3").milli(), 5);
    EXPECT_EQ(Quantity::parse("128Mi").to_string(), "128Mi");
    EXPECT_EQ(Quantity::parse("1500m").to_string(), "1500m");
    EXPECT_LT(Quantity::parse("1G"), Quantity::parse("1Gi"));
}

TEST(QuantityText, RoundTripsForSeededValues) {
    std::mt19937_64 random(11);
    for (int i = 0; i < 20'000; ++i) {
        auto value = Quantity::from_milli(static_cast<std::int64_t>(random() >> (1 + random() % 62)));
        EXPECT_EQ(Quantity::parse(value.to_string()), value) << value.to_string();
    }
}

TEST(QuantityText, RefusesWhatIsNotInTheGrammar) {
    for (const char* text : {"", "-1", "1 Gi", "Gi", "1ki", "0.0001", "1e99", "1e", "1.2.3", "0x10",
                             "99999999999999999999999999", "9223372036854775807Pi", "1Gi ", "1mi"}) {
        EXPECT_THROW(Quantity::parse(text), Error) << text;
    }
}

TEST(Times, RoundTripAndRefuseNonsense) {
    auto time = parse_rfc3339("2026-02-28T23:59:59.123456789Z");
    EXPECT_EQ(to_rfc3339(time), "2026-02-28T23:59:59.123456789Z");
    EXPECT_EQ(parse_rfc3339("1970-01-01T00:00:01Z").time_since_epoch(), 1s);
    for (const char* text : {"", "2026-02-30T00:00:00Z", "2026-01-01 00:00:00Z", "2026-01-01T00:00:00",
                             "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.Z"})
        EXPECT_THROW(parse_rfc3339(text), Error) << text;
}

TEST(Secrets, AreComparedAndNeverLogged) {
    Secret secret("hunter2"), same("hunter2"), other("hunter3");
    EXPECT_TRUE(secret == same);
    EXPECT_FALSE(secret == other);
    LogRecord record{{}, LogLevel::info, "test", "login", "id-1", {LogField("password", secret)}};
    EXPECT_EQ(format_json(record).find("hunter2"), std::string::npos);
    EXPECT_NE(format_text(record).find("***"), std::string::npos);
}

TEST(LogLines, AreOneJsonObjectWhateverTheMessageHolds) {
    LogRecord record{{},     LogLevel::warning,
                     "test", "two\nlines \x01 \xff bad",
                     "",     {LogField("count", std::int64_t{3}), LogField("text", "a=\"b\"")}};
    auto line = format_json(record);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    auto document = nlohmann::json::parse(line);
    EXPECT_EQ(document["severity_number"], 13);
    EXPECT_EQ(document["count"], 3);
    EXPECT_EQ(document["text"], "a=\"b\"");
    EXPECT_EQ(format_text(record).find('\n'), std::string::npos);
}

TEST(Errors, AreToldApartByCode) {
    Error error(Errc::not_ready, "no answer", {{"channel", "agent"}});
    EXPECT_TRUE(error.code() == Errc::not_ready);
    EXPECT_TRUE(error.retryable());
    EXPECT_FALSE(is_retryable(make_error_code(Errc::validation)));
    EXPECT_FALSE(is_retryable(std::make_error_code(std::errc::io_error)));
    EXPECT_STREQ(name_of(Errc::quota_exceeded), "quota_exceeded");
}

}  // namespace
}  // namespace infrastructure_sdk
