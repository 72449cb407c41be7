# SPDX-License-Identifier: MIT
# The kernel's compilers and flags, for libslabmalloc_kernel.a.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_COMPILER riscv64-linux-gnu-gcc-12)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++-12)
set(CMAKE_CXX_FLAGS_INIT "-fno-pie -mcmodel=medany -march=rv64gc -mabi=lp64d -Werror")
