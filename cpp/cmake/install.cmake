include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/infrastructure_sdk)
install(TARGETS infrastructure_sdk EXPORT infrastructure_sdk_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/cpp/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev
  FILES_MATCHING PATTERN "*.hpp")
install(EXPORT infrastructure_sdk_targets NAMESPACE infrastructure_sdk:: DESTINATION ${package_dir} COMPONENT dev)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/infrastructure_sdk-config.cmake.in
  ${PROJECT_BINARY_DIR}/infrastructure_sdk-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/infrastructure_sdk-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/infrastructure_sdk-config.cmake
  ${PROJECT_BINARY_DIR}/infrastructure_sdk-config-version.cmake DESTINATION ${package_dir} COMPONENT dev)
