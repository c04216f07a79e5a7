# The target tflm: TensorFlow Lite Micro from the sources in TFLM_ROOT, with its reference kernels, as far as the linker finds it is needed.
#
# TFLM_ROOT is a tree that TFLM's own create_tflm_tree.py made, or a checkout in which its Makefile has fetched third_party_downloads.
set(TFLM_ROOT "" CACHE PATH "Sources of TensorFlow Lite Micro")
if(NOT EXISTS "${TFLM_ROOT}/tensorflow/lite/micro/micro_interpreter.h")
  message(FATAL_ERROR "TFLM_ROOT: expected the sources of TensorFlow Lite Micro, got '${TFLM_ROOT}'; add -DTFLM_ROOT=<their folder>")
endif()

set(lite ${TFLM_ROOT}/tensorflow/lite)
file(GLOB tflm_sources
  ${lite}/micro/*.cc ${lite}/micro/arena_allocator/*.cc ${lite}/micro/memory_planner/*.cc ${lite}/micro/tflite_bridge/*.cc
  ${lite}/micro/kernels/*.cc
  # What TFLM shares with TensorFlow Lite: first in TensorFlow's own folders, in newer sources below micro/.
  ${lite}/core/api/*.cc ${lite}/core/c/*.cc ${lite}/kernels/*.cc ${lite}/kernels/internal/*.cc
  ${lite}/kernels/internal/reference/*.cc ${lite}/schema/*.cc
  ${TFLM_ROOT}/tensorflow/compiler/mlir/lite/core/api/*.cc ${TFLM_ROOT}/tensorflow/compiler/mlir/lite/schema/*.cc
  ${lite}/micro/c/*.cc ${lite}/micro/schema/*.cc ${lite}/micro/kernels/internal/*.cc ${lite}/micro/kernels/internal/reference/*.cc)
list(FILTER tflm_sources EXCLUDE REGEX "(_test.*|test_helper.*|fake_.*|mock_.*|hexdump.*|recording_.*|ethosu|.*_benchmark)\\.cc$")

add_library(tflm STATIC ${tflm_sources})
target_include_directories(tflm SYSTEM PUBLIC ${TFLM_ROOT})
foreach(third ${TFLM_ROOT}/third_party ${lite}/micro/tools/make/downloads)
  target_include_directories(tflm SYSTEM PUBLIC ${third}/flatbuffers/include ${third}/gemmlowp ${third}/ruy ${third}/kissfft)
endforeach()
target_compile_features(tflm PUBLIC cxx_std_17)
target_compile_definitions(tflm PUBLIC TF_LITE_STATIC_MEMORY TF_LITE_DISABLE_X86_NEON)
target_compile_options(tflm PRIVATE -O2 -w)
if(TINYKIT_BOARD)
  target_link_libraries(tflm PUBLIC stdc++ m)
endif()
