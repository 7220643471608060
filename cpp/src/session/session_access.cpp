// What a user does with a session: commands, files, screen, keys and pointer, console and ports.
#include <infrastructure_sdk/duration.hpp>

#include "session/session_engine_impl.hpp"

namespace infrastructure_sdk {

namespace {

void need_active(const Session& session, const char* verb) {
    if (session.state != SessionState::active)
        throw Error(
            Errc::invalid_transition,
            std::string("cannot ") + verb + " in session " + session.id + " while it is " + name_of(session.state),
            {{"session", session.id}, {"state", name_of(session.state)}, {"verb", verb}});
}

}  // namespace

Task<ExecResult> SessionEngine::exec(std::string id, ExecRequest request, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "exec");
    ExecInFlight in_flight(target);
    co_return co_await impl->provider->agent(target->session.vm_id)->exec(std::move(request), call);
}

Task<std::string> SessionEngine::read_file(std::string id, std::string path, std::size_t limit_bytes, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "read a file");
    ExecInFlight in_flight(target);
    co_return co_await impl->provider->agent(target->session.vm_id)->read_file(std::move(path), limit_bytes, call);
}

Task<void> SessionEngine::write_file(std::string id, std::string path, std::string bytes, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "write a file");
    ExecInFlight in_flight(target);
    co_await impl->provider->agent(target->session.vm_id)->write_file(std::move(path), std::move(bytes), call);
}

Task<std::string> SessionEngine::screenshot(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "take a screenshot");
    if (!impl->provider->capabilities().screenshot)
        throw Error(Errc::unsupported, "the provider cannot take screenshots", {{"capability", "screenshot"}});
    co_return co_await impl->provider->display(target->session.vm_id)->screenshot(call);
}

Task<DisplaySize> SessionEngine::display_size(std::string id, Call call) {
    auto impl = impl_;
    auto picture = co_await screenshot(std::move(id), call);
    auto size = png_size(picture);
    if (!size) throw Error(Errc::provider, "the screenshot is not a PNG");
    co_return *size;
}

namespace {

Task<void> send(std::shared_ptr<VmProvider> provider, LivePtr target, std::vector<InputEvent> events, Call call) {
    need_active(target->session, "send input");
    if (!provider->capabilities().input)
        throw Error(Errc::unsupported, "the provider cannot send input", {{"capability", "input"}});
    ExecInFlight in_flight(target);
    co_await provider->display(target->session.vm_id)->input(std::move(events), call);
}

}  // namespace

Task<void> SessionEngine::type_text(std::string id, std::string text, std::string layout, Call call) {
    auto impl = impl_;
    auto events = typing(text, layout);
    auto target = co_await impl->need(std::move(id));
    co_await send(impl->provider, target, std::move(events), call);
}

Task<void> SessionEngine::press_keys(std::string id, std::vector<std::string> chords, Call call) {
    auto impl = impl_;
    std::vector<InputEvent> events;
    for (const auto& keys : chords)
        for (auto& event : chord(keys)) events.push_back(std::move(event));
    auto target = co_await impl->need(std::move(id));
    co_await send(impl->provider, target, std::move(events), call);
}

Task<void> SessionEngine::point(std::string id, MouseAction action, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(id);
    DisplaySize size;
    if (action.at) size = co_await display_size(id, call);
    auto events = pointing(action, size);
    co_await send(impl->provider, target, std::move(events), call);
}

Task<void> SessionEngine::ping(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "ping");
    co_await impl->provider->agent(target->session.vm_id)->ping(call);
}

// ---- commands that are followed, files in parts --------------------------------------------------------------------

Task<std::string> SessionEngine::exec_start(std::string id, ExecRequest request, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "exec");
    constexpr std::size_t most = 1000;
    if (impl->execs.size() >= most)
        throw Error(Errc::conflict, "1000 commands are followed already; close some", {{"field", "exec_start"}});
    ExecInFlight in_flight(target);
    auto process = co_await impl->provider->agent(target->session.vm_id)->start(std::move(request), call);
    auto name = make_uuid(*impl->env.random);
    impl->execs[name] = std::make_shared<RunningExec>(target, std::move(process));
    co_return name;
}

std::shared_ptr<RunningExec> SessionEngine::Impl::need_exec(const std::string& session,
                                                            const std::string& process) const {
    auto found = execs.find(process);
    if (found == execs.end() || found->second->target->session.id != session)
        throw Error(Errc::not_found, "session " + session + " follows no command " + process,
                    {{"session", session}, {"process", process}});
    return found->second;
}

Task<ExecProgress> SessionEngine::exec_follow(std::string id, std::string process, Call call) {
    auto impl = impl_;
    auto running = impl->need_exec(id, process);
    need_active(running->target->session, "follow a command");
    co_return co_await running->process->follow(call);
}

Task<void> SessionEngine::exec_signal(std::string id, std::string process, std::string signal, Call call) {
    auto impl = impl_;
    auto running = impl->need_exec(id, process);
    need_active(running->target->session, "signal a command");
    co_await running->process->signal(std::move(signal), call);
}

Task<void> SessionEngine::exec_close(std::string id, std::string process, Call call) {
    auto impl = impl_;
    auto running = impl->need_exec(id, process);
    impl->execs.erase(process);
    // In a session that is not active there is nobody to ask; what ended with its VM left nothing.
    if (running->target->session.state == SessionState::active) co_await running->process->close(call);
}

Task<std::string> SessionEngine::read_file_part(std::string id, std::string path, std::uint64_t offset,
                                                std::size_t limit_bytes, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "read a file");
    ExecInFlight in_flight(target);
    auto agent = impl->provider->agent(target->session.vm_id);
    co_return co_await agent->read_file_part(std::move(path), offset, limit_bytes, call);
}

Task<void> SessionEngine::write_file_part(std::string id, std::string path, std::uint64_t offset, std::string bytes,
                                          Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "write a file");
    ExecInFlight in_flight(target);
    auto agent = impl->provider->agent(target->session.vm_id);
    co_await agent->write_file_part(std::move(path), offset, std::move(bytes), call);
}

Task<std::vector<GuestFileEntry>> SessionEngine::list_files(std::string id, std::string path, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "list a folder");
    ExecInFlight in_flight(target);
    co_return co_await impl->provider->agent(target->session.vm_id)->list_files(std::move(path), call);
}

// ---- clients -------------------------------------------------------------------------------------------------------

Task<ConsoleTicket> SessionEngine::console_ticket(std::string id, Duration valid_for, bool share, Call) {
    auto impl = impl_;
    constexpr Duration longest = std::chrono::hours(1);
    if (valid_for <= Duration::zero() || valid_for > longest)
        throw Error(Errc::validation,
                    "valid_for: " + to_string(valid_for) + " is not allowed; above zero, at most " + to_string(longest),
                    {{"field", "valid_for"}, {"value", to_string(valid_for)}, {"allowed", "above zero, at most 1h"}});
    auto target = co_await impl->need(std::move(id));
    const auto& session = target->session;
    need_active(session, "open a console");
    if (!impl->provider->capabilities().console)
        throw Error(Errc::unsupported, "the provider has no console", {{"capability", "console"}});
    const auto at = impl->env.clock->monotonic_now();
    ConsoleGrant grant{session.id, session.execution_id, share, at + valid_for};
    ConsoleTicket ticket{impl->console_tokens.issue(std::move(grant), *impl->env.random, at), impl->now() + valid_for};
    impl->log(LogLevel::info, "a console was promised", session);
    co_return ticket;
}

Task<GuestStreamPtr> SessionEngine::open_console(std::string id, Secret token, Call call) {
    auto impl = impl_;
    auto target = impl->find(id);
    const auto execution = target ? target->session.execution_id : std::string();
    auto grant = impl->console_tokens.redeem(token, id, execution, impl->env.clock->monotonic_now());
    // One answer for all: who guesses learns nothing.
    if (!grant || !target) throw Error(Errc::authentication, "the console's token is not valid", {{"field", "token"}});
    need_active(target->session, "open a console");
    auto stream = co_await impl->provider->display(target->session.vm_id)->console(!grant->share, call);
    impl->log(LogLevel::info, "a console was opened", target->session);
    co_return stream;
}

Task<void> SessionEngine::disconnect_clients(std::string id, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "cut off the clients");
    co_await impl->provider->disconnect_clients(target->session.vm_id, call);
}

Task<GuestStreamPtr> SessionEngine::open_port(std::string id, std::uint16_t port, Call call) {
    auto impl = impl_;
    auto target = co_await impl->need(std::move(id));
    need_active(target->session, "open a port");
    co_return co_await impl->provider->open_port(target->session.vm_id, port, call);
}

}  // namespace infrastructure_sdk
