# What the agent tells the world: control socket, events, metrics and pages. egressctl links it for the shared
# formats.
find_package(prometheus-cpp REQUIRED)
find_package(civetweb REQUIRED)

add_library(egressd_reporting STATIC
  ${CMAKE_CURRENT_LIST_DIR}/control.cc
  ${CMAKE_CURRENT_LIST_DIR}/control_socket.cc
  ${CMAKE_CURRENT_LIST_DIR}/event_log.cc
  ${CMAKE_CURRENT_LIST_DIR}/metrics.cc
  ${CMAKE_CURRENT_LIST_DIR}/pages.cc
  ${CMAKE_CURRENT_LIST_DIR}/pod_warnings.cc
  ${CMAKE_CURRENT_LIST_DIR}/process_metrics.cc
  ${CMAKE_CURRENT_LIST_DIR}/status.cc)
target_include_directories(egressd_reporting PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(egressd_reporting
  PUBLIC egress_base egress_policy nlohmann_json::nlohmann_json
  PRIVATE prometheus-cpp::core civetweb::civetweb Threads::Threads)
