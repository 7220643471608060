#pragma once
// Structured logging behind one injected sink.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <infrastructure_sdk/clock.hpp>
#include <infrastructure_sdk/secret.hpp>

namespace infrastructure_sdk {

enum class LogLevel { debug, info, warning, error };
const char* name_of(LogLevel level) noexcept;
/// @throws Error(validation)
LogLevel parse_log_level(std::string_view name);

/// A name and a value; a Secret becomes "***" on construction, so no sink can see it.
struct LogField {
    LogField(std::string name, std::string value) : name(std::move(name)), value(std::move(value)) {}
    LogField(std::string name, const char* value) : name(std::move(name)), value(value) {}
    LogField(std::string name, const Secret&) : name(std::move(name)), value(Secret::redacted()) {}
    LogField(std::string name, std::int64_t value)
        : name(std::move(name)), value(std::to_string(value)), is_number(true) {}

    std::string name;
    std::string value;
    bool is_number = false;
};

struct LogRecord {
    WallTime time;
    LogLevel level = LogLevel::info;
    std::string logger;  ///< e.g. "vm.qemu"
    std::string message;
    std::string correlation_id;  ///< may be empty
    std::vector<LogField> fields;
};

/// Thread-safe. Never throws, never blocks on the network.
class LogSink {
public:
    virtual ~LogSink() = default;
    virtual void write(const LogRecord& record) = 0;
};

class Logger {
public:
    Logger(std::shared_ptr<LogSink> sink, std::shared_ptr<Clock> clock, LogLevel level);
    void log(LogLevel level, std::string_view logger, std::string message, std::vector<LogField> fields = {},
             std::string correlation_id = {}) const;
    bool enabled(LogLevel level) const noexcept { return level >= level_; }

private:
    std::shared_ptr<LogSink> sink_;
    std::shared_ptr<Clock> clock_;
    LogLevel level_;
};

/// One JSON object a line: `timestamp, severity_text, severity_number, logger, body, correlation_id` (OpenTelemetry's
/// names) and the fields. Bad UTF-8 is replaced, control characters are escaped.
std::string format_json(const LogRecord& record);
/// "2026-11-24T15:07:48.123Z INFO  vm.qemu: message key=value"
std::string format_text(const LogRecord& record);

enum class LogFormat { text, json };
/// spdlog to a file (0600) or, with an empty path, to standard error.
std::shared_ptr<LogSink> make_stream_sink(LogFormat format, const std::string& path = {});
std::shared_ptr<LogSink> make_null_sink();
std::shared_ptr<LogSink> make_callback_sink(std::function<void(const LogRecord&)> callback);

}  // namespace infrastructure_sdk
