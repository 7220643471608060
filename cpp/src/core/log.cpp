#include <infrastructure_sdk/log.hpp>

#include <array>
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <infrastructure_sdk/error.hpp>

namespace infrastructure_sdk {
namespace {

constexpr std::array<const char*, 4> level_names{"debug", "info", "warning", "error"};
// OpenTelemetry's severity numbers.
constexpr std::array<int, 4> severity_numbers{5, 9, 13, 17};
constexpr std::array<const char*, 4> severity_texts{"DEBUG", "INFO", "WARN", "ERROR"};

std::string quoted(const std::string& text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool plain(const std::string& text) {
    if (text.empty()) return false;
    for (unsigned char c : text)
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '=' || c == '\\') return false;
    return true;
}

class StreamSink final : public LogSink {
public:
    StreamSink(LogFormat format, std::shared_ptr<spdlog::sinks::sink> sink)
        : format_(format), logger_("infrastructure_sdk", std::move(sink)) {
        logger_.set_pattern("%v");
        logger_.set_level(spdlog::level::trace);
        logger_.flush_on(spdlog::level::trace);
    }
    void write(const LogRecord& record) override {
        try {
            auto line = format_ == LogFormat::json ? format_json(record) : format_text(record);
            logger_.log(spdlog::level::info, "{}", line);
        } catch (...) {
            // A log that cannot be written must not end the work it tells of.
        }
    }

private:
    LogFormat format_;
    spdlog::logger logger_;
};

class NullSink final : public LogSink {
public:
    void write(const LogRecord&) override {}
};

class CallbackSink final : public LogSink {
public:
    explicit CallbackSink(std::function<void(const LogRecord&)> callback) : callback_(std::move(callback)) {}
    void write(const LogRecord& record) override { callback_(record); }

private:
    std::function<void(const LogRecord&)> callback_;
};

}  // namespace

const char* name_of(LogLevel level) noexcept { return level_names[static_cast<std::size_t>(level)]; }

LogLevel parse_log_level(std::string_view name) {
    for (std::size_t i = 0; i < level_names.size(); ++i)
        if (name == level_names[i]) return static_cast<LogLevel>(i);
    throw Error(Errc::validation, "log level '" + std::string(name) + "' is not allowed; debug, info, warning, error",
                {{"field", "level"}, {"value", std::string(name)}, {"allowed", "debug, info, warning, error"}});
}

Logger::Logger(std::shared_ptr<LogSink> sink, std::shared_ptr<Clock> clock, LogLevel level)
    : sink_(std::move(sink)), clock_(std::move(clock)), level_(level) {}

void Logger::log(LogLevel level, std::string_view logger, std::string message, std::vector<LogField> fields,
                 std::string correlation_id) const {
    if (!enabled(level)) return;
    sink_->write({clock_->wall_now(), level, std::string(logger), std::move(message), std::move(correlation_id),
                  std::move(fields)});
}

std::string format_json(const LogRecord& record) {
    auto level = static_cast<std::size_t>(record.level);
    std::string line = "{\"timestamp\":\"" + to_rfc3339(record.time) + "\",\"severity_text\":\"" +
                       severity_texts[level] + "\",\"severity_number\":" + std::to_string(severity_numbers[level]) +
                       ",\"logger\":" + quoted(record.logger) + ",\"body\":" + quoted(record.message);
    if (!record.correlation_id.empty()) line += ",\"correlation_id\":" + quoted(record.correlation_id);
    for (const auto& field : record.fields)
        line += "," + quoted(field.name) + ":" + (field.is_number ? field.value : quoted(field.value));
    return line + "}";
}

std::string format_text(const LogRecord& record) {
    std::string level = severity_texts[static_cast<std::size_t>(record.level)];
    level.resize(5, ' ');
    auto time = to_rfc3339(record.time).substr(0, 23) + "Z";
    auto quoted_message = quoted(record.message);
    std::string line =
        time + " " + level + " " + record.logger + ": " + quoted_message.substr(1, quoted_message.size() - 2);
    for (const auto& field : record.fields)
        line += " " + field.name + "=" + (plain(field.value) ? field.value : quoted(field.value));
    if (!record.correlation_id.empty())
        line +=
            " correlation_id=" + (plain(record.correlation_id) ? record.correlation_id : quoted(record.correlation_id));
    return line;
}

std::shared_ptr<LogSink> make_stream_sink(LogFormat format, const std::string& path) {
    if (path.empty()) return std::make_shared<StreamSink>(format, std::make_shared<spdlog::sinks::stderr_sink_mt>());
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        throw Error(Errc::configuration,
                    "logging.file: '" + path + "' cannot be written: " + std::string(::strerror(errno)),
                    {{"field", "logging.file"}, {"value", path}});
    ::close(fd);
    return std::make_shared<StreamSink>(format, std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
}

std::shared_ptr<LogSink> make_null_sink() { return std::make_shared<NullSink>(); }

std::shared_ptr<LogSink> make_callback_sink(std::function<void(const LogRecord&)> callback) {
    return std::make_shared<CallbackSink>(std::move(callback));
}

}  // namespace infrastructure_sdk
