#include "session/pool_records.hpp"

#include <infrastructure_sdk/json.hpp>

namespace infrastructure_sdk {

using nlohmann::json;

Put unit_intent(const PoolUnit& unit, WallTime now) {
    return {"intent", unit.id,
            json{{"verb", unit.state == UnitState::booting ? "boot unit" : "discard unit"},
                 {"state", name_of(unit.state)},
                 {"vm_id", unit.vm_id.value},
                 {"execution_id", unit.execution_id},
                 {"since", to_rfc3339(now)}}
                .dump(),
            std::nullopt};
}

Event unit_event(const char* type, const PoolUnit& unit, WallTime now, json more) {
    more.update({{"pool", unit.pool}, {"template", unit.template_name}, {"vm_id", unit.vm_id.value}});
    return {0, now, type, unit.id, unit.execution_id, "", more.dump(-1, ' ', false, json::error_handler_t::replace)};
}

}  // namespace infrastructure_sdk
