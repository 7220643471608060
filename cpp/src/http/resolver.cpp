#include "http/resolver.hpp"

#include <algorithm>

#include <netdb.h>
#include <sys/socket.h>

#include "http/byte_stream.hpp"

namespace infrastructure_sdk {
namespace {

using asio::ip::tcp;
using Addresses = std::vector<asio::ip::address>;

struct Answer {
    Addresses addresses;
    std::string problem;
};

Answer ask_system(const std::string& host) {
    Answer answer;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo* found = nullptr;
    if (int code = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); code != 0) {
        answer.problem = ::gai_strerror(code);
        return answer;
    }
    for (auto* each = found; each; each = each->ai_next) {
        tcp::endpoint endpoint;
        if (each->ai_addrlen > endpoint.capacity()) continue;
        std::copy_n(reinterpret_cast<const char*>(each->ai_addr), each->ai_addrlen,
                    reinterpret_cast<char*>(endpoint.data()));
        answer.addresses.push_back(endpoint.address());
    }
    ::freeaddrinfo(found);
    if (answer.addresses.empty()) answer.problem = "the name has no address";
    return answer;
}

}  // namespace

struct Resolver::Lookup {
    explicit Lookup(Executor executor) : done(std::move(executor)) {}
    Signal done;
    bool finished = false;
    Answer answer;
};

struct Resolver::State {
    explicit State(Environment e) : environment(std::move(e)), changed(environment.executor) {}
    Environment environment;
    Signal changed;
    std::size_t running = 0;
    std::map<std::string, std::shared_ptr<Lookup>> lookups;

    static Task<void> look_up(std::shared_ptr<State> state, std::shared_ptr<Lookup> lookup, std::string host) {
        constexpr std::size_t at_once = 2;
        while (state->running >= at_once) co_await state->changed.wait();
        ++state->running;
        auto work = [host] { return ask_system(host); };
        lookup->answer = co_await run_blocking(state->environment.blocking, work);
        --state->running;
        lookup->finished = true;
        state->lookups.erase(host);
        lookup->done.notify_all();
        state->changed.notify_all();
    }
};

Resolver::Resolver(Environment environment)
    : environment_(environment), state_(std::make_shared<State>(environment)), tasks_(environment.executor) {}

Task<std::vector<tcp::endpoint>> Resolver::resolve(std::string host, std::uint16_t port, Call call) {
    std::vector<tcp::endpoint> endpoints;
    boost::system::error_code error;
    auto literal = asio::ip::make_address(host, error);
    if (!error) {
        endpoints.emplace_back(literal, port);
        co_return endpoints;
    }
    auto mine = state_->lookups[host];
    if (!mine) {
        mine = state_->lookups[host] = std::make_shared<Lookup>(environment_.executor);
        tasks_.spawn(environment_.logger, "looking up " + host, State::look_up(state_, mine, host));
    }
    while (!mine->finished) {
        check(call, *environment_.clock, "looking up a host name");
        co_await mine->done.wait(*environment_.clock, call);
    }
    if (!mine->answer.problem.empty()) fail_stage("resolve", "'" + host + "': " + mine->answer.problem);
    for (const auto& address : mine->answer.addresses) endpoints.emplace_back(address, port);
    co_return endpoints;
}

}  // namespace infrastructure_sdk
