# Most of the time of a build goes into instantiating the same coroutine and JSON templates in each source. Compiled together, the
# sources of a group share them. The other builds compile each source alone, which shows a missing include.
set_target_properties(infrastructure_sdk PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
target_compile_options(infrastructure_sdk PRIVATE -Wno-subobject-linkage) # types in an anonymous namespace are local all the same

function(group_sources name)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/cpp/src/ OUTPUT_VARIABLE files)
  set_source_files_properties(${files} PROPERTIES UNITY_GROUP ${name})
endfunction()

group_sources(engine_states session/session_engine.cpp session/session_driver.cpp session/session_recovery.cpp
  session/session_restart.cpp session/session_expiry.cpp session/session_records.cpp)
group_sources(engine_use session/session_use.cpp session/session_access.cpp session/session_claims.cpp session/session_pools.cpp session/session_isolation.cpp
  session/session_snapshots.cpp session/session_policies.cpp)
group_sources(qemu_provider providers/qemu/provider.cpp providers/qemu/provider_memory.cpp providers/qemu/provider_snapshots.cpp
  providers/qemu/provider_memory_copies.cpp
  providers/qemu/provider_keys.cpp providers/qemu/provider_clones.cpp providers/qemu/provider_templates.cpp)
group_sources(qemu_provider_parts providers/qemu/provider_display.cpp providers/qemu/provider_clients.cpp
  providers/qemu/provider_access.cpp providers/qemu/provider_ports.cpp providers/qemu/provider_tpm.cpp
  providers/qemu/provider_limits.cpp providers/qemu/provider_health.cpp providers/qemu/provider_network.cpp)
group_sources(qemu_guest providers/qemu/guest_agent.cpp providers/qemu/agent_answers.cpp providers/qemu/guest_process.cpp providers/qemu/guest_files.cpp
  providers/qemu/evidence.cpp providers/qemu/activity.cpp providers/qemu/audit.cpp)
group_sources(qemu_files providers/qemu/vm_record.cpp providers/qemu/snapshot_files.cpp providers/qemu/factory.cpp
  providers/qemu/accelerator.cpp providers/qemu/process.cpp providers/qemu/qmp_client.cpp)
group_sources(simulator providers/simulator/provider.cpp providers/simulator/guest.cpp providers/simulator/host.cpp)
group_sources(simulation simulation/simulate.cpp simulation/person.cpp simulation/tally.cpp simulation/counting_host.cpp
  simulation/forgetful_store.cpp)
group_sources(simulation_words simulation/workload.cpp simulation/fleet.cpp simulation/trace.cpp simulation/event_log.cpp
  simulation/documents.cpp simulation/result_json.cpp)
group_sources(http http/asio_transport.cpp http/connection_pool.cpp http/resolver.cpp http/tcp_stream.cpp http/tls_stream.cpp)
