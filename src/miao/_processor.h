// Which of the loops that are compiled for kinds of processors this one can run, asked by all modules that have them.
#pragma once

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_AMD64))
#include <windows.h>
#endif

#include <cstring>

namespace miao_processor {

// Whether the variant of such a name, see CMakeLists.txt, runs here.
inline bool can_run(const char *variant) {
    const bool is_512 = !std::strcmp(variant, "avx512"), is_avx2 = !std::strcmp(variant, "avx2");
#if defined(MIAO_X86) && defined(__GNUC__)
    __builtin_cpu_init();
    if (is_512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (is_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#elif defined(MIAO_X86)
    if (is_512) return IsProcessorFeaturePresent(41);  // PF_AVX512F_INSTRUCTIONS_AVAILABLE
    if (is_avx2) return IsProcessorFeaturePresent(40);  // PF_AVX2_INSTRUCTIONS_AVAILABLE
#endif
    return !is_512 && !is_avx2;
}

}  // namespace miao_processor
