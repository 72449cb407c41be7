# SPDX-License-Identifier: MIT
# Toolchain of the kernel for aarch64, and what its image needs to know of the architecture.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++-12)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc-12)

set(boot_compile_options -mgeneral-regs-only -mno-outline-atomics -mstrict-align)
set(boot_pages 4k 16k 64k)
# The device tree is in the first 2 MiB of memory, which begins at 1 GiB.
set(boot_image_base 0x40200000)
