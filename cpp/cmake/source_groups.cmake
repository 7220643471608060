# Most of the time of a build goes into instantiating the same coroutine and JSON templates in each source. Compiled together, the
# sources of a group share them. The preset ci compiles each source alone, which shows a missing include.
target_compile_options(infrastructure_sdk PRIVATE -Wno-subobject-linkage) # types in an anonymous namespace are local all the same

# Not CMake's own unity build: that names the sources by their absolute paths, and no two clones could share a compiler cache.
function(group_sources name)
  list(TRANSFORM ARGN REPLACE "(.+)" "#include \"\\1\"" OUTPUT_VARIABLE includes)
  list(JOIN includes "\n" content)
  set(group ${PROJECT_BINARY_DIR}/groups/${name}.cpp)
  file(CONFIGURE OUTPUT ${group} CONTENT "${content}\n" @ONLY)
  list(TRANSFORM ARGN PREPEND ${PROJECT_SOURCE_DIR}/cpp/src/ OUTPUT_VARIABLE files)
  set_source_files_properties(${files} PROPERTIES HEADER_FILE_ONLY ON)
  target_sources(infrastructure_sdk PRIVATE ${group})
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
group_sources(simulation simulation/simulate.cpp simulation/person.cpp simulation/tally.cpp simulation/decision_counts.cpp
  simulation/forgetful_store.cpp)
group_sources(simulation_words simulation/workload.cpp simulation/fleet.cpp simulation/trace.cpp simulation/event_log.cpp
  simulation/documents.cpp simulation/result_json.cpp)
group_sources(http http/asio_transport.cpp http/connection_pool.cpp http/resolver.cpp http/tcp_stream.cpp http/tls_stream.cpp)
group_sources(isolation_checks isolation/checks/compute.cpp isolation/checks/memory.cpp isolation/checks/network.cpp
  isolation/checks/runtime.cpp isolation/checks/storage.cpp isolation/facts.cpp isolation/finding.cpp
  isolation/score.cpp isolation/contradictions.cpp)
group_sources(isolation_collectors isolation/collectors/cgroups.cpp isolation/collectors/files.cpp
  isolation/collectors/host.cpp isolation/collectors/packet_filters.cpp isolation/collectors/sockets.cpp
  isolation/collection.cpp isolation/procfs.cpp)
group_sources(isolation_probes isolation/probes/canaries.cpp isolation/probes/foreign.cpp isolation/probes/frames.cpp
  isolation/probes/host_probes.cpp isolation/probes/probe_run.cpp isolation/probes/protocol.cpp
  isolation/probes/verdict.cpp isolation/probes/wire.cpp)
group_sources(isolation_reports isolation/statement.cpp isolation/verify_reports.cpp isolation/waivers.cpp
  isolation/report_ledger.cpp isolation/signing_keys.cpp isolation/isolation_json.cpp isolation/drift.cpp)
group_sources(isolation_readings isolation/readings.cpp isolation/readings_monitor.cpp isolation/packet_rules.cpp
  isolation/packet_walk.cpp isolation/isolation_engine.cpp isolation/host_watch.cpp)
group_sources(policy policy/policy_engine.cpp policy/policy_loading.cpp policy/policy_process.cpp)
group_sources(policy_words policy/builtin_policies.cpp policy/decision_json.cpp policy/policy_json.cpp
  policy/policies_document.cpp policy/policy_rules.cpp)
group_sources(session_words session/session_json.cpp session/snapshot_json.cpp session/limits_json.cpp
  session/policy_requests.cpp session/reservation_ledger.cpp)
group_sources(session_rules session/admission.cpp session/amounts.cpp session/cost.cpp session/explain.cpp
  session/explain_sentences.cpp session/idleness.cpp session/limits.cpp session/measurement.cpp session/pool_plan.cpp
  session/restart.cpp)
group_sources(qemu_host providers/qemu/control_groups.cpp providers/qemu/network.cpp providers/qemu/network_plan.cpp
  providers/qemu/doctor.cpp providers/qemu/doctor_rules.cpp providers/qemu/limit_plan.cpp providers/qemu/debris.cpp
  providers/qemu/probe_port.cpp providers/qemu/memory_stream.cpp providers/qemu/line_connection.cpp
  providers/qemu/command_line.cpp providers/qemu/ram_template.cpp)
group_sources(webhooks webhooks/delivery_json.cpp webhooks/delivery_queue.cpp webhooks/delivery_rules.cpp
  webhooks/webhook_engine.cpp webhooks/webhook_worker.cpp webhooks/webhooks_document.cpp)
group_sources(store store/journal.cpp store/memory_store.cpp store/owner_lock.cpp store/precondition.cpp
  store/schema.cpp store/sqlite.cpp store/sqlite_store.cpp)
group_sources(config config/config.cpp config/fields.cpp config/read_values.cpp config/schema.cpp config/sources.cpp
  config/value.cpp)
group_sources(documents core/document.cpp core/document_json.cpp core/document_toml.cpp core/document_yaml.cpp)
group_sources(vm vm/template.cpp vm/vm_json.cpp vm/vm_names.cpp vm/keyboard.cpp vm/file_key_store.cpp
  vm/guest_identity.cpp)
