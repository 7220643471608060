#include <infrastructure_sdk/clock.hpp>

#include <cstdio>
#include <ctime>

#include <sys/random.h>

#include "core/asio.hpp"
#include "core/async_tools.hpp"
#include "core/sleeper.hpp"
#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

Duration read_clock(clockid_t id) {
    timespec now{};
    ::clock_gettime(id, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

class SystemClock final : public Clock {
public:
    WallTime wall_now() const override { return WallTime(read_clock(CLOCK_REALTIME)); }
    MonotonicTime monotonic_now() const override { return MonotonicTime(read_clock(CLOCK_BOOTTIME)); }

    Task<void> sleep_until(MonotonicTime when, std::stop_token stop) override {
        auto executor = co_await asio::this_coro::executor;
        auto timer = std::make_shared<asio::steady_timer>(executor);
        // A year at a time keeps far deadlines inside the timer's range.
        auto left = std::min<Duration>(when - monotonic_now(), std::chrono::hours(24 * 365));
        if (left <= Duration::zero() || stop.stop_requested()) co_return;
        timer->expires_after(left);
        // The callback may run on any thread; the timer is touched on the executor only.
        std::stop_callback wake(stop, [timer, executor] { asio::post(executor, [timer] { timer->cancel(); }); });
        boost::system::error_code ignored;
        co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
};

class SystemRandom final : public Random {
public:
    void fill(std::span<std::uint8_t> bytes) override {
        while (!bytes.empty()) {
            auto got = ::getrandom(bytes.data(), bytes.size(), 0);
            if (got < 0) continue;  // EINTR
            bytes = bytes.subspan(static_cast<std::size_t>(got));
        }
    }
};

[[noreturn]] void bad_time(const std::string& text) {
    throw Error(Errc::validation, "time: '" + text + "' is not an RFC 3339 time in UTC, e.g. 2026-01-31T12:00:00Z",
                {{"field", "time"}, {"value", text}});
}

}  // namespace

Task<void> until_stopped(std::stop_token stop) {
    auto executor = co_await asio::this_coro::executor;
    if (stop.stop_requested()) co_return;
    Sleeper sleeper(executor);
    std::stop_callback wake(stop, [sleeper] { sleeper.wake(); });
    co_await sleeper.sleep();
}

std::shared_ptr<Clock> make_system_clock() { return std::make_shared<SystemClock>(); }
std::shared_ptr<Random> make_system_random() { return std::make_shared<SystemRandom>(); }

std::string make_uuid(Random& random) {
    std::uint8_t b[16];
    random.fill(b);
    b[6] = static_cast<std::uint8_t>((b[6] & 0x0f) | 0x40);
    b[8] = static_cast<std::uint8_t>((b[8] & 0x3f) | 0x80);
    char text[37];
    std::snprintf(text, sizeof text, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
                  b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return text;
}

std::string to_rfc3339(WallTime time) {
    auto seconds = std::chrono::floor<std::chrono::seconds>(time);
    auto day = std::chrono::floor<std::chrono::days>(seconds);
    std::chrono::year_month_day date(day);
    std::chrono::hh_mm_ss clock(seconds - day);
    // By hand and not by printf: it is written with every record and every event.
    std::string text = "0000-00-00T00:00:00.000000000Z";
    auto put = [&text](std::size_t end, std::uint64_t number) {
        for (; number > 0; number /= 10) text[--end] = static_cast<char>('0' + number % 10);
    };
    put(4, static_cast<std::uint64_t>(static_cast<int>(date.year())));
    put(7, static_cast<unsigned>(date.month()));
    put(10, static_cast<unsigned>(date.day()));
    put(13, static_cast<std::uint64_t>(clock.hours().count()));
    put(16, static_cast<std::uint64_t>(clock.minutes().count()));
    put(19, static_cast<std::uint64_t>(clock.seconds().count()));
    put(29, static_cast<std::uint64_t>((time - seconds).count()));
    return text;
}

WallTime parse_rfc3339(const std::string& text) {
    int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, used = 0;
    if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second, &used) !=
            6 ||
        used != 19)
        bad_time(text);
    std::int64_t fraction = 0;
    std::size_t at = 19;
    if (at < text.size() && text[at] == '.') {
        std::int64_t unit = 100'000'000;
        for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10)
            fraction += (text[at] - '0') * unit;
        if (at == 20) bad_time(text);
    }
    std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                     std::chrono::day(static_cast<unsigned>(day))};
    if (text.substr(at) != "Z" || !date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
        second > 60)
        bad_time(text);
    return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
           std::chrono::seconds(second) + std::chrono::nanoseconds(fraction);
}

}  // namespace infrastructure_sdk
