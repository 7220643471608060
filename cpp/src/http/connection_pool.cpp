#include "http/connection_pool.hpp"

#include <algorithm>

namespace infrastructure_sdk {

std::unique_ptr<Connection> ConnectionPool::take(const Origin& origin, MonotonicTime now) {
    idle_.remove_if([&](const Idle& idle) { return now - idle.since >= options_.idle_time; });
    for (auto it = idle_.end(); it != idle_.begin();) {
        --it;
        if (it->origin != origin) continue;
        auto connection = std::move(it->connection);
        it = idle_.erase(it);
        if (!connection->bytes->is_stale()) return connection;
    }
    return nullptr;
}

void ConnectionPool::put_back(const Origin& origin, std::unique_ptr<Connection> connection, MonotonicTime now) {
    idle_.remove_if([&](const Idle& idle) { return now - idle.since >= options_.idle_time; });
    idle_.push_back({origin, now, std::move(connection)});
    auto same = [&](const Idle& idle) { return idle.origin == origin; };
    if (static_cast<std::size_t>(std::count_if(idle_.begin(), idle_.end(), same)) > options_.idle_per_host)
        idle_.erase(std::find_if(idle_.begin(), idle_.end(), same));
    if (idle_.size() > options_.idle_in_all) idle_.pop_front();
}

}  // namespace infrastructure_sdk
