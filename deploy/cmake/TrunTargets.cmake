# One function per kind of target, so that a room's CMakeLists.txt is only names.
#
#   trun_library(NAME SRCS a.cc ... DEPS trun::other absl::status ...)
#   trun_binary(NAME SRCS main.cc DEPS ...)
#   trun_test(NAME SRCS a_test.cc ... DEPS ... [LABELS l ...] [TIMEOUT s] [DATA dir])
#   trun_fuzzer(NAME SRCS a_fuzzer.cc DEPS ... [SEEDS *.ptx ...])   SEEDS: files of the repository to start from
#   trun_benchmark(NAME SRCS a_bench.cc DEPS ...)
#   trun_hot(NAME)                     its loops are worth optimising even under a sanitizer
#   trun_alone(a.cc ...)               sources whose own names stand in other sources of their target too
#
# A library NAME becomes target trun_NAME with the alias trun::NAME. Includes are written from the root
# of the repository: #include "server/cache/kernel_cache.h".

add_library(trun_flags INTERFACE)
target_include_directories(trun_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(trun_flags INTERFACE -Wall -Wextra -Wno-unused-parameter -Werror=return-type -pthread)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(trun_flags INTERFACE -Wthread-safety -Werror=thread-safety)
  # Debian's libraries are built by GCC, which mangles some templates as clang did before 18: absl::Cord(std::string&&).
  target_compile_options(trun_flags INTERFACE -fclang-abi-compat=17)
endif()
if(TRUN_SANITIZE STREQUAL "address")
  target_compile_options(trun_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                         -fno-omit-frame-pointer)
  target_link_options(trun_flags INTERFACE -fsanitize=address,undefined)
elseif(TRUN_SANITIZE STREQUAL "thread")
  target_compile_options(trun_flags INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(trun_flags INTERFACE -fsanitize=thread)
elseif(TRUN_SANITIZE)
  message(FATAL_ERROR "TRUN_SANITIZE is '${TRUN_SANITIZE}': use address, thread or nothing")
endif()

# Half of an unoptimised compile is other people's headers: sanitizer presets read them once. What includes too little
# is found by the presets that do not.
# trun_prefix(NAME [PIE] HEADERS <a.h> ... DEPS ...)
function(trun_prefix name)
  cmake_parse_arguments(A "PIE" "" "HEADERS;DEPS" ${ARGN})
  file(WRITE "${CMAKE_BINARY_DIR}/${name}.cc" "")
  add_library(${name} OBJECT "${CMAKE_BINARY_DIR}/${name}.cc")
  target_link_libraries(${name} PRIVATE trun_flags ${A_DEPS})
  target_precompile_headers(${name} PRIVATE ${A_HEADERS})
  if(A_PIE)  # compiled as executables are
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${name} PRIVATE -fPIE)
  endif()
endfunction()

function(trun_use_prefix name prefix)
  if(TARGET ${prefix})
    target_precompile_headers(${name} REUSE_FROM ${prefix})
  endif()
endfunction()

function(trun_library name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  if(A_SRCS)
    add_library(trun_${name} STATIC ${A_SRCS})
    target_link_libraries(trun_${name} PUBLIC trun_flags ${A_DEPS})
    trun_use_prefix(trun_${name} trun_library_prefix)
  else()
    add_library(trun_${name} INTERFACE)
    target_link_libraries(trun_${name} INTERFACE trun_flags ${A_DEPS})
  endif()
  add_library(trun::${name} ALIAS trun_${name})
endfunction()

# Sanitizer presets compile without optimisation, which takes half the time and hides nothing from them; code that
# interprets every lane of every warp would then make its tests crawl.
function(trun_hot name)
  if(TRUN_SANITIZE)
    target_compile_options(trun_${name} PRIVATE -O1)
    set_target_properties(trun_${name} PROPERTIES DISABLE_PRECOMPILE_HEADERS ON)  # made for another -O
  endif()
endfunction()

# Sanitizer presets compile several sources of a target as one (CMAKE_UNITY_BUILD): most of the time goes to headers.
# The names of an unnamed namespace meet there; what does not compile together, or means something else, stands alone.
function(trun_alone)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

function(trun_binary name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE trun_flags ${A_DEPS})
endfunction()

function(trun_test name)
  if(NOT TRUN_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "TIMEOUT;DATA" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE trun_flags ${A_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  trun_use_prefix(${name} trun_test_prefix)
  if(NOT TRUN_SANITIZE)
    target_compile_options(${name} PRIVATE -O1)  # what is tested is optimised; the test itself compiles in two thirds
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests")
  if(NOT A_DATA)
    set(A_DATA "${CMAKE_CURRENT_SOURCE_DIR}")
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY "${A_DATA}")
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
endfunction()

function(trun_fuzzer name)
  if(NOT TRUN_BUILD_FUZZERS)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SRCS;DEPS;SEEDS" ${ARGN})
  list(TRANSFORM A_SEEDS APPEND "\n")
  string(JOIN "" seeds ${A_SEEDS})
  file(WRITE "${CMAKE_BINARY_DIR}/fuzz/${name}.seeds" "${seeds}")  # tests/fuzz/fuzz.sh reads it
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE trun_flags ${A_DEPS})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/fuzz")
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_dependencies(fuzzers ${name})
endfunction()

function(trun_benchmark name)
  if(NOT TRUN_BUILD_BENCH)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${A_SRCS})
  target_link_libraries(${name} PRIVATE trun_flags ${A_DEPS} benchmark::benchmark benchmark::benchmark_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bench")
endfunction()
