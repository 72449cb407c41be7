# SPDX-License-Identifier: MIT
# Toolchain of the kernel for riscv64, and what its image needs to know of the architecture.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR riscv64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_COMPILER riscv64-linux-gnu-g++-12)
set(CMAKE_ASM_COMPILER riscv64-linux-gnu-gcc-12)

# Zba and Zbb, which QEMU's processor has, spare a handful of instructions for each allocation.
set(boot_compile_options -march=rv64gc_zba_zbb -mabi=lp64d -mcmodel=medany)
set(boot_pages 4k)
# OpenSBI is below, and jumps here.
set(boot_image_base 0x80200000)
