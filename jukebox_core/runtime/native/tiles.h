// Matrix products by tiles (AMX): 16 rows of activations times 16 outputs, 64 bytes of each in one instruction.
//
// Products with int8 weights are sums of integers: tiles give the same bits as vectors, and serve where there are rows
// enough. Those with bfloat16 weights add even and odd inputs apart, in another order than vectors do; so tiles serve
// every number of rows, or none: the results of a sample are the same, bit for bit, in every batch.
//
// TILES_EMULATED computes the instructions one by one in plain C++, for tests where the CPU has none.

#pragma once

#include <array>

#include "weights.h"

#if defined(TILES_EMULATED)
#define TILES 1
#elif defined(__linux__) && defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
#include <sys/syscall.h>
#include <unistd.h>
#define TILES 1
#else
#define TILES 0
#endif

namespace {

constexpr int64_t TILE_ROWS = 16;   // rows of a tile; its columns are 16 outputs
constexpr int64_t TILE_BYTES = 64;  // of one row of a tile

#if defined(TILES_EMULATED)

typedef std::array<std::array<uint8_t, TILE_BYTES>, TILE_ROWS> EmulatedTile;
thread_local std::array<EmulatedTile, 8> emulated_tiles;

inline void emulated_load(EmulatedTile& tile, const void* at, int64_t stride) {
    for (int64_t row = 0; row < TILE_ROWS; row++) std::memcpy(tile[row].data(), (const char*)at + row * stride, TILE_BYTES);
}

inline void emulated_store(const EmulatedTile& tile, void* at, int64_t stride) {
    for (int64_t row = 0; row < TILE_ROWS; row++) std::memcpy((char*)at + row * stride, tile[row].data(), TILE_BYTES);
}

// For each row of `x` and column of `weight`: `add(sum, x, weight)` for 16 groups of four bytes, in order.
template <class Sum, class Add>
void emulated_product(EmulatedTile& sums, const EmulatedTile& x, const EmulatedTile& weight, Add add) {
    for (int64_t row = 0; row < TILE_ROWS; row++)
        for (int64_t column = 0; column < TILE_ROWS; column++) {
            Sum sum;
            std::memcpy(&sum, &sums[row][4 * column], 4);
            add(sum, x[row].data(), [&](int64_t group) { return &weight[group][4 * column]; });
            std::memcpy(&sums[row][4 * column], &sum, 4);
        }
}

inline void emulated_int8(EmulatedTile& sums, const EmulatedTile& x, const EmulatedTile& weight) {
    emulated_product<int32_t>(sums, x, weight, [](int32_t& sum, const uint8_t* values, auto weights) {
        for (int64_t i = 0; i < TILE_BYTES; i++) sum += int32_t(int8_t(values[i])) * int32_t(weights(i / 4)[i % 4]);
    });
}

inline void emulated_bfloat16(EmulatedTile& sums, const EmulatedTile& x, const EmulatedTile& weight) {
    emulated_product<float>(sums, x, weight, [](float& sum, const uint8_t* values, auto weights) {
        float parts[2] = {};
        for (int64_t i = 0; i < TILE_BYTES / 2; i++) {
            uint16_t a, b;
            std::memcpy(&a, values + 2 * i, 2);
            std::memcpy(&b, weights(i / 2) + 2 * (i % 2), 2);
            parts[i % 2] = std::fma(load(&a), load(&b), parts[i % 2]);
        }
        sum += parts[0] + parts[1];
    });
}

#define TILE_ZERO(tile) emulated_tiles[tile] = {}
#define TILE_LOAD(tile, at, stride) emulated_load(emulated_tiles[tile], at, stride)
#define TILE_STORE(tile, at, stride) emulated_store(emulated_tiles[tile], at, stride)
#define TILE_INT8(sums, x, weight) emulated_int8(emulated_tiles[sums], emulated_tiles[x], emulated_tiles[weight])
#define TILE_BFLOAT16(sums, x, weight) \
    emulated_bfloat16(emulated_tiles[sums], emulated_tiles[x], emulated_tiles[weight])

inline bool tiles_permitted() { return true; }
struct TileConfiguration {};

#elif TILES

#define TILE_ZERO(tile) _tile_zero(tile)
// The compiler's intrinsics do not say that they read memory: without the barrier, what they read may not be there yet.
#define TILE_LOAD(tile, at, stride)         \
    do {                                    \
        __asm__ volatile("" ::: "memory");  \
        _tile_loadd(tile, at, stride);      \
    } while (0)
#define TILE_STORE(tile, at, stride) _tile_stored(tile, at, stride)
#define TILE_INT8(sums, x, weight) _tile_dpbsud(sums, x, weight)  // signed activations, unsigned weights
#define TILE_BFLOAT16(sums, x, weight) _tile_dpbf16ps(sums, x, weight)

// Asks the system for the registers of tiles, which a process has after that; it may refuse.
inline bool tiles_permitted() {
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA of Linux
    static const bool permitted = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    return permitted;
}

// The operand of the instruction that configures tiles: eight of TILE_ROWS rows of TILE_BYTES. It is constant, since
// the compiler's intrinsic says to read eight bytes of it alone: stores to others would be left out.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    constexpr TileShapes() {
        for (int tile = 0; tile < 8; tile++) row_bytes[tile] = uint16_t(TILE_BYTES), rows[tile] = uint8_t(TILE_ROWS);
    }
};
inline constexpr TileShapes TILE_SHAPES;

// While it lives, the calling thread's tiles have TILE_SHAPES.
class TileConfiguration {
   public:
    TileConfiguration() {
        if (tiles_permitted()) _tile_loadconfig(&TILE_SHAPES);
    }
    ~TileConfiguration() {
        if (tiles_permitted()) _tile_release();
    }
    TileConfiguration(const TileConfiguration&) = delete;
    TileConfiguration& operator=(const TileConfiguration&) = delete;
};

#else

inline bool tiles_permitted() { return false; }
struct TileConfiguration {};

#endif

#if TILES

// Operands of tiles: [rows / TILE_ROWS][bytes of a row / TILE_BYTES][TILE_ROWS][TILE_BYTES], so that each tile is read
// from one place, and the tiles of a product one after the other.
constexpr int64_t TILE_SIZE = TILE_ROWS * TILE_BYTES;

// Adds the products of some blocks of half a panel of int8 weights with TILE_ROWS rows to sums [TILE_ROWS, PANEL], of
// which half of the columns are used. `scale` and `start` are [blocks][TILE_ROWS].
inline void multiply_tile_int8(const uint8_t* weight, int64_t blocks, const uint8_t* x, const float* scale,
                               const int32_t* start, float* sums) {
    constexpr int64_t N = TILE_ROWS / LANES;
    alignas(64) int32_t parts[2][TILE_ROWS][TILE_ROWS];
    floats total[TILE_ROWS][N];
#pragma GCC unroll 16
    for (int64_t m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 2
        for (int64_t v = 0; v < N; v++) total[m][v] = *(floats*)(sums + m * PANEL + v * LANES);
#define MULTIPLY_BLOCK(sums, xs, weights)   \
    TILE_ZERO(sums);                        \
    TILE_LOAD(xs, x, TILE_BYTES);           \
    TILE_LOAD(weights, weight, 4 * PANEL);  \
    TILE_INT8(sums, xs, weights);           \
    x += TILE_SIZE, weight += BLOCK * PANEL
    const auto add = [&](const int32_t(*part)[TILE_ROWS]) {
#pragma GCC unroll 16
        for (int64_t m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 2
            for (int64_t v = 0; v < N; v++)
                total[m][v] += Weights<INT8>::number(*(const ints*)(part[m] + v * LANES) + start[m]) * scale[m];
        scale += TILE_ROWS, start += TILE_ROWS;
    };
    // The next two blocks are multiplied while the sums of this one are added.
    MULTIPLY_BLOCK(0, 4, 6);
    if (blocks > 1) { MULTIPLY_BLOCK(1, 5, 7); }
    TILE_STORE(0, parts[0], TILE_BYTES);
    for (int64_t block = 0; block < blocks; block += 2) {
        if (block + 2 < blocks) { MULTIPLY_BLOCK(0, 4, 6); }
        if (block + 1 < blocks) TILE_STORE(1, parts[1], TILE_BYTES);
        add(parts[0]);
        if (block + 3 < blocks) { MULTIPLY_BLOCK(1, 5, 7); }
        if (block + 2 < blocks) TILE_STORE(0, parts[0], TILE_BYTES);
        if (block + 1 < blocks) add(parts[1]);
    }
#undef MULTIPLY_BLOCK
#pragma GCC unroll 16
    for (int64_t m = 0; m < TILE_ROWS; m++)
#pragma GCC unroll 2
        for (int64_t v = 0; v < N; v++) *(floats*)(sums + m * PANEL + v * LANES) = total[m][v];
}

// Adds the products of some steps of a panel of bfloat16 weights with TILE_ROWS rows, or those of `next` as well if it
// is not null, to sums [rows, PANEL].
inline void multiply_tiles_bfloat16(const uint16_t* weight, int64_t steps, const uint8_t* x, const uint8_t* next,
                                    float* sums) {
    constexpr int64_t WIDTH = PANEL * 4;
    TILE_LOAD(0, sums, WIDTH);
    TILE_LOAD(1, sums + TILE_ROWS, WIDTH);
    if (next) {
        TILE_LOAD(2, sums + TILE_ROWS * PANEL, WIDTH);
        TILE_LOAD(3, sums + TILE_ROWS * PANEL + TILE_ROWS, WIDTH);
    }
    for (int64_t i = 0; i < steps; i++, x += TILE_SIZE, weight += TILE_BYTES / 2 * PANEL) {
        TILE_LOAD(4, x, TILE_BYTES);
        TILE_LOAD(6, weight, WIDTH);
        TILE_BFLOAT16(0, 4, 6);
        TILE_LOAD(7, weight + PANEL, WIDTH);
        TILE_BFLOAT16(1, 4, 7);
        if (next) {
            TILE_LOAD(5, next + i * TILE_SIZE, TILE_BYTES);
            TILE_BFLOAT16(2, 5, 6);
            TILE_BFLOAT16(3, 5, 7);
        }
    }
    TILE_STORE(0, sums, WIDTH);
    TILE_STORE(1, sums + TILE_ROWS, WIDTH);
    if (next) {
        TILE_STORE(2, sums + TILE_ROWS * PANEL, WIDTH);
        TILE_STORE(3, sums + TILE_ROWS * PANEL + TILE_ROWS, WIDTH);
    }
}

#endif

}  // namespace
