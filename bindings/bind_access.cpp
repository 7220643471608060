// What a user does with a session, on the opened SDK: commands, parts of files, screen, keys and pointer, console.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <fcntl.h>

#include "sdk_handle.hpp"
#include <infrastructure_sdk/duration.hpp>

namespace infrastructure_sdk::bindings {
namespace py = pybind11;
namespace {

/// A method that gives nothing.
std::uint64_t call_void(const SdkHandle& self, const QueuePtr& queue, py::object future, double timeout_s,
                        const std::string& correlation_id, std::function<Task<void>(SessionEngine&, Call)> make) {
    auto sdk = self.sdk;
    return submit_void(queue, std::move(future), self.runtime->environment(), {timeout_s, correlation_id},
                       [sdk, make](Call call) { return make(sdk->sessions(), call); });
}

py::object exec_result(const ExecResult& result) {
    py::dict dict;
    dict["exit_code"] = result.exit_code;
    dict["stdout"] = py::bytes(result.stdout_data);
    dict["stderr"] = py::bytes(result.stderr_data);
    dict["stdout_truncated"] = result.stdout_truncated;
    dict["stderr_truncated"] = result.stderr_truncated;
    dict["elapsed"] = std::chrono::duration<double>(result.elapsed).count();
    return dict;
}

ExecRequest exec_request(const std::vector<std::string>& arguments, const py::bytes& input,
                         const std::map<std::string, std::string>& environment, const std::string& folder,
                         const std::string& user) {
    ExecRequest request;
    request.arguments = arguments;
    request.stdin_data = std::string(input);
    request.environment = environment;
    request.working_directory = folder;
    request.user = user;
    return request;
}

py::object file_entries(const std::vector<GuestFileEntry>& entries) {
    py::list list;
    for (const auto& entry : entries)
        list.append(py::make_tuple(py::bytes(entry.name), entry.type, entry.size_bytes, entry.mode, entry.modified_at));
    return list;
}

/// Python gets a descriptor of its own and the stream, which counts as a client until it is dropped.
py::object stream_pair(const GuestStreamPtr& stream) {
    int copy = ::fcntl(stream->descriptor(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) throw Error(Errc::provider, "the stream cannot be handed over: too many open files");
    py::capsule counted(new GuestStreamPtr(stream),
                        [](void* held) { std::unique_ptr<GuestStreamPtr>(static_cast<GuestStreamPtr*>(held)); });
    return py::make_tuple(copy, counted);
}

void bind_commands(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    using Words = const std::vector<std::string>&;
    using Variables = const std::map<std::string, std::string>&;
    sdk.def("exec",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Words arguments,
               const py::bytes& input, Variables environment, Text folder, Text user) {
                auto request = exec_request(arguments, input, environment, folder, user);
                return call_sdk<ExecResult>(
                    self, queue, std::move(future), timeout_s, correlation_id,
                    [id, request](InfrastructureSDK& sdk, Call call) { return sdk.sessions().exec(id, request, call); },
                    exec_result);
            })
        .def("exec_start",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Words arguments,
                const py::bytes& input, Variables environment, Text folder, Text user) {
                 auto request = exec_request(arguments, input, environment, folder, user);
                 return call_sdk<std::string>(
                     self, queue, std::move(future), timeout_s, correlation_id,
                     [id, request](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().exec_start(id, request, call);
                     },
                     [](const std::string& name) -> py::object { return py::str(name); });
             })
        .def("exec_follow",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string process) {
                 return call_sdk<ExecProgress>(
                     self, queue, std::move(future), timeout_s, correlation_id,
                     [id, process](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().exec_follow(id, process, call);
                     },
                     [](const ExecProgress& progress) -> py::object {
                         return py::make_tuple(py::bytes(progress.stdout_data), py::bytes(progress.stderr_data),
                                               progress.exit_code);
                     });
             })
        .def("exec_signal",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string process,
                std::string signal) {
                 return call_void(self, queue, std::move(future), timeout_s, correlation_id,
                                  [id, process, signal](SessionEngine& sessions, Call call) {
                                      return sessions.exec_signal(id, process, signal, call);
                                  });
             })
        .def("exec_close",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string process) {
                 return call_void(self, queue, std::move(future), timeout_s, correlation_id,
                                  [id, process](SessionEngine& sessions, Call call) {
                                      return sessions.exec_close(id, process, call);
                                  });
             });
}

void bind_parts(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    sdk.def("read_file_part",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string path,
               std::uint64_t offset, std::size_t limit) {
                return call_sdk<std::string>(
                    self, queue, std::move(future), timeout_s, correlation_id,
                    [id, path, offset, limit](InfrastructureSDK& sdk, Call call) {
                        return sdk.sessions().read_file_part(id, path, offset, limit, call);
                    },
                    [](const std::string& value) -> py::object { return py::bytes(value); });
            })
        .def("write_file_part",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string path,
                std::uint64_t offset, const py::bytes& data) {
                 std::string content(data);
                 return call_void(self, queue, std::move(future), timeout_s, correlation_id,
                                  [id, path, offset, content](SessionEngine& sessions, Call call) {
                                      return sessions.write_file_part(id, path, offset, content, call);
                                  });
             })
        .def("list_files", [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id,
                              std::string path) {
            return call_sdk<std::vector<GuestFileEntry>>(
                self, queue, std::move(future), timeout_s, correlation_id,
                [id, path](InfrastructureSDK& sdk, Call call) { return sdk.sessions().list_files(id, path, call); },
                file_entries);
        });
}

void bind_clients(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    sdk.def("console_ticket",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, Text valid_for,
               bool share) {
                auto length = parse_duration(valid_for, "valid_for");
                return call_sdk<ConsoleTicket>(
                    self, queue, std::move(future), timeout_s, correlation_id,
                    [id, length, share](InfrastructureSDK& sdk, Call call) {
                        return sdk.sessions().console_ticket(id, length, share, call);
                    },
                    [](const ConsoleTicket& ticket) -> py::object {
                        return py::make_tuple(ticket.token.reveal(), to_rfc3339(ticket.expires_at));
                    });
            })
        .def("open_console",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string token) {
                 Secret secret(std::move(token));
                 return call_sdk<GuestStreamPtr>(
                     self, queue, std::move(future), timeout_s, correlation_id,
                     [id, secret](InfrastructureSDK& sdk, Call call) {
                         return sdk.sessions().open_console(id, secret, call);
                     },
                     stream_pair);
             })
        .def("open_port",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::uint16_t port) {
                 return call_sdk<GuestStreamPtr>(
                     self, queue, std::move(future), timeout_s, correlation_id,
                     [id, port](InfrastructureSDK& sdk, Call call) { return sdk.sessions().open_port(id, port, call); },
                     stream_pair);
             })
        .def("disconnect_clients",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                 return call_void(
                     self, queue, std::move(future), timeout_s, correlation_id,
                     [id](SessionEngine& sessions, Call call) { return sessions.disconnect_clients(id, call); });
             });
}

}  // namespace

void bind_access(py::class_<SdkHandle>& sdk) {
    using S = const SdkHandle&;
    using Q = const QueuePtr&;
    using F = py::object;
    using Text = const std::string&;
    bind_commands(sdk);
    bind_parts(sdk);
    bind_clients(sdk);
    sdk.def("display_size",
            [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id) {
                return call_sdk<DisplaySize>(
                    self, queue, std::move(future), timeout_s, correlation_id,
                    [id](InfrastructureSDK& sdk, Call call) { return sdk.sessions().display_size(id, call); },
                    [](DisplaySize size) -> py::object { return py::make_tuple(size.width, size.height); });
            })
        .def("type_text",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id, std::string text,
                std::string layout) {
                 return call_void(self, queue, std::move(future), timeout_s, correlation_id,
                                  [id, text, layout](SessionEngine& sessions, Call call) {
                                      return sessions.type_text(id, text, layout, call);
                                  });
             })
        .def("press_keys",
             [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id,
                std::vector<std::string> chords) {
                 return call_void(self, queue, std::move(future), timeout_s, correlation_id,
                                  [id, chords](SessionEngine& sessions, Call call) {
                                      return sessions.press_keys(id, chords, call);
                                  });
             })
        .def("point", [](S self, Q queue, F future, double timeout_s, Text correlation_id, std::string id,
                         std::optional<std::pair<std::uint32_t, std::uint32_t>> at, std::string button,
                         std::string action, std::uint32_t count, std::int32_t scroll) {
            MouseAction wanted{at, button, action, count, scroll};
            return call_void(
                self, queue, std::move(future), timeout_s, correlation_id,
                [id, wanted](SessionEngine& sessions, Call call) { return sessions.point(id, wanted, call); });
        });
}

}  // namespace infrastructure_sdk::bindings
