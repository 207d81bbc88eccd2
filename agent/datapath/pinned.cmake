# Reads the pinned maps without the agent: what egressctl links of this layer.
add_library(egress_pinned STATIC
  ${CMAKE_CURRENT_LIST_DIR}/pinned_map.cc
  ${CMAKE_CURRENT_LIST_DIR}/pinned_routes.cc
  ${CMAKE_CURRENT_LIST_DIR}/pinned_view.cc)
target_include_directories(egress_pinned PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(egress_pinned PUBLIC egress_base egress_policy PRIVATE PkgConfig::LIBBPF)
