// One decode step of a transformer on the CPU, all layers in one call; and its products of matrices, for any rows.
//
// A step of a few samples reads every weight once and computes little with it, so its time is the time that memory takes
// to deliver the weights, plus whatever is done while memory waits. Hence one team of threads walks through all layers
// together, and each thread reads its share of a matrix from beginning to end, as it lies in memory.
//
// A matrix [I, O] lies in panels of `PANEL` outputs, [panels][I / R][PANEL][R] with R inputs beside each other, which is
// how the processor multiplies small numbers (`packed` in matrices.py). An output is summed over its inputs in their order,
// whatever the batch, the tile and the number of threads: a sample's numbers are the same, bit for bit, in every batch.
//
// Shapes: B samples (or rows of another kind), I inputs and O outputs of a matrix, W width, H heads, D head width. Sums,
// norms, softmax and the residual stream are float32. Where weights are bfloat16, what they multiply is rounded to it;
// where they are int8, it is rounded to 8 bits of the largest of its block of 64 inputs.

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define WIDE 1
#else
#define WIDE 0
#endif

extern "C" {

enum Precision : int32_t { FLOAT32, BFLOAT16, INT8 };

struct Matrix {  // mirrored in matrices.py; the structures below in walk.py
    const void* weight;
    const float* scale;  // [O], of int8 weights
    const float* bias;   // [O]
    int64_t inputs, outputs;
};

struct Layer {
    const float *norm_1_weight, *norm_1_bias, *norm_2_weight, *norm_2_bias;
    Matrix project_in, project_out, feed_in, feed_out;
    void *keys, *values;                 // the first of the layer's cache
    int64_t sample_stride, head_stride;  // of the cache, in elements; a key follows another after D of them
    int64_t span;                        // which of the step's spans is the layer's
};

struct Span {       // where a step writes and reads in the caches of one kind of layer, counted in keys
    int64_t write;  // -1: nothing is written
    int64_t first, count;
};

struct Model {
    const Layer* layers;
    int64_t depth, width, hidden, heads, head_width, most_keys;
    float residual_scale;
    int32_t precision, half_cache;  // half_cache: keys and values are bfloat16
};

int64_t step_scratch(const Model* model, int64_t samples, int64_t threads);
void step(const Model* model, const Span* spans, float* x, int64_t samples, float* scratch, int64_t threads);
int64_t multiply_scratch(const Matrix* matrix, int64_t rows);
void multiply(const Matrix* matrix, int32_t precision, const float* x, float* out, int64_t rows, float* scratch,
              int64_t threads);
}

namespace {

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef int32_t ints __attribute__((vector_size(64), aligned(4)));

constexpr int64_t LANES = 16;           // outputs in one vector
constexpr int V = 2;                    // vectors in a panel
constexpr int64_t PANEL = V * LANES;    // outputs in a panel
constexpr int64_t GROUP = WIDE ? 8 : 4;  // most samples that share one read of a weight
constexpr int64_t BLOCK = 64;           // inputs of a row that share a scale where weights are int8

// --- numbers ---------------------------------------------------------------------------------------------------------

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline uint32_t to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline uint32_t bfloat_bits(float value) {  // to nearest, ties to even
    const uint32_t bits = to_bits(value);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float load(const float* at) { return *at; }
inline float load(const uint16_t* at) { return from_bits(uint32_t(*at) << 16); }
inline void store(float* at, float value) { *at = value; }
inline void store(uint16_t* at, float value) { *at = uint16_t(bfloat_bits(value)); }

// e to the x: a power of two times a polynomial on [-ln 2 / 2, ln 2 / 2], right to about 1e-7 of its value.
inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the integer is in the low bits
    const float power = shifted - 12582912.0f;
    const float r = (x - power * 0.693359375f) + power * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return p * from_bits((to_bits(shifted) + 127) << 23);
}

// --- products --------------------------------------------------------------------------------------------------------

// What a precision stores, and how it multiplies: `R` inputs at a time, with an operand of 32 bits for each row.
template <int32_t> struct Weights;

template <> struct Weights<FLOAT32> {
    typedef float Element;
    typedef floats Sum;
    static constexpr int64_t R = 1;
    static floats read(const float* at) { return *(const floats*)at; }
    static floats add(floats sum, floats weights, int32_t x) { return sum + weights * from_bits(uint32_t(x)); }
};

template <> struct Weights<BFLOAT16> {
    typedef uint16_t Element;
    typedef floats Sum;
    static constexpr int64_t R = 2;
    static ints read(const uint16_t* at) { return *(const ints*)at; }
    static floats add(floats sum, ints weights, int32_t x) {
#if WIDE && defined(__AVX512BF16__)
        return (floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(x));
#else
        sum += (floats)(weights << 16) * from_bits(uint32_t(x) << 16);
        return sum + (floats)(weights & int32_t(0xffff0000)) * from_bits(uint32_t(x) & 0xffff0000u);
#endif
    }
};

template <> struct Weights<INT8> {  // stored plus 128, which `Operands::start` takes away again
    typedef uint8_t Element;
    typedef ints Sum;
    static constexpr int64_t R = 4;
    static ints read(const uint8_t* at) { return *(const ints*)at; }
    static ints add(ints sum, ints weights, int32_t x) {
#if WIDE && defined(__AVX512VNNI__)
        return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x));
#else
        for (int byte = 0; byte < 32; byte += 8) sum += (weights >> byte & 255) * int32_t(int8_t(x >> byte));
        return sum;
#endif
    }
    static floats number(ints sum) { return __builtin_convertvector(sum, floats); }
};

// What a matrix multiplies: rows of numbers as operands, [groups][I / R][rows of the group]. Where weights are int8, a
// block of BLOCK inputs of a row has a scale, and a number where its sums start: [groups][blocks][rows of the group].
struct Operands {
    int32_t* at;
    float* scale;
    int32_t* start;
    int64_t rows, inputs;
    int64_t blocks() const { return (inputs + BLOCK - 1) / BLOCK; }
};

// Returns the size of the group that begins at `row`: a power of two, at most GROUP.
inline int64_t group_size(int64_t row, int64_t rows) {
    int64_t size = GROUP;
    while (size > rows - row) size /= 2;
    return size;
}

// Lays one row of numbers out as operands.
template <int32_t P> void set_operands(Operands& to, int64_t row, const float* values) {
    int64_t first = row - row % GROUP;
    while (first + group_size(first, to.rows) <= row) first += group_size(first, to.rows);
    const int64_t size = group_size(first, to.rows), R = Weights<P>::R;
    int32_t* at = to.at + first * (to.inputs / R) + (row - first);
    if (P == FLOAT32) {
        for (int64_t i = 0; i < to.inputs; i++) at[i * size] = int32_t(to_bits(values[i]));
    } else if (P == BFLOAT16) {
        for (int64_t i = 0; i < to.inputs / 2; i++)
            at[i * size] = int32_t(bfloat_bits(values[2 * i]) | bfloat_bits(values[2 * i + 1]) << 16);
    } else {
        const int64_t block_at = first * to.blocks() + (row - first);
        for (int64_t block = 0; block < to.blocks(); block++) {
            const float* from = values + block * BLOCK;
            const int64_t count = std::min(BLOCK, to.inputs - block * BLOCK);
            uint32_t largest_bits = 0;  // of numbers above zero, the larger has the larger bits
            for (int64_t i = 0; i < count; i++)
                largest_bits = std::max(largest_bits, to_bits(from[i]) & 0x7fffffff);
            const float largest = from_bits(largest_bits), per_unit = largest > 0 ? 127 / largest : 0;
            int8_t whole[BLOCK];
            int32_t sum = 0;
            for (int64_t i = 0; i < count; i++)  // adding 1.5 * 2^23 leaves the integer in the low bits
                whole[i] = int8_t(to_bits(from[i] * per_unit + 12582912.0f));
            for (int64_t i = 0; i < count; i++) sum += whole[i];
            to.scale[block_at + block * size] = largest / 127;
            to.start[block_at + block * size] = -128 * sum;
            for (int64_t i = 0; i < count; i += 4) std::memcpy(at + (block * BLOCK + i) / 4 * size, whole + i, 4);
        }
    }
}

// Multiplies a panel with a group of M rows: sums is [M, PANEL]. Where it is told how far on the next panel lies, it asks
// for it meanwhile.
template <int32_t P, int M>
inline void multiply_panel(const typename Weights<P>::Element* weight, int64_t inputs, const int32_t* x,
                           const float* scale, const int32_t* start, int64_t ahead, float* sums) {
    using W = Weights<P>;
    const int64_t block = P == INT8 ? BLOCK : inputs;
    floats total[M][V] = {};
    for (int64_t begin = 0; begin < inputs; begin += block) {
        typename W::Sum part[M][V] = {};
        if constexpr (P == INT8)
            for (int m = 0; m < M; m++)
                for (int v = 0; v < V; v++) part[m][v] += start[m];
        for (int64_t i = begin; i < std::min(begin + block, inputs); i += W::R, weight += W::R * PANEL, x += M) {
            decltype(W::read(weight)) read[V];
            for (int v = 0; v < V; v++) read[v] = W::read(weight + W::R * LANES * v);
            if (ahead)
                for (int64_t byte = 0; byte < int64_t(W::R * PANEL * sizeof *weight); byte += 64)
                    __builtin_prefetch((const char*)(weight + ahead) + byte, 0, 2);
            for (int m = 0; m < M; m++)
                for (int v = 0; v < V; v++) part[m][v] = W::add(part[m][v], read[v], x[m]);
        }
        for (int m = 0; m < M; m++)
            for (int v = 0; v < V; v++)
                if constexpr (P == INT8) total[m][v] += W::number(part[m][v]) * scale[m];
                else total[m][v] = part[m][v];
        if constexpr (P == INT8) scale += M, start += M;
    }
    for (int m = 0; m < M; m++)
        for (int v = 0; v < V; v++) *(floats*)(sums + m * PANEL + v * LANES) = total[m][v];
}

// Computes the panels [begin, end) of all rows; gives `count` outputs of a row at once to `take(row, first output,
// values, count)`.
template <int32_t P, class Take>
void multiply_panels(const Matrix& matrix, const Operands& x, int64_t begin, int64_t end, Take take) {
    const auto* weights = (const typename Weights<P>::Element*)matrix.weight;
    const int64_t inputs = matrix.inputs, panel_size = inputs * PANEL;
    float sums[GROUP * PANEL];
    for (int64_t panel = begin; panel < end; panel++) {
        const auto* weight = weights + panel * panel_size;
        const int64_t output = panel * PANEL;
        const int count = int(std::min(PANEL, matrix.outputs - output));
        for (int64_t row = 0, size; row < x.rows; row += size) {
            size = group_size(row, x.rows);
            const int64_t ahead = row && row + size == x.rows && panel + 1 < end ? panel_size : 0;
            const int32_t* at = x.at + row * (inputs / Weights<P>::R);
            const float* scale = x.scale + row * x.blocks();
            const int32_t* start = x.start + row * x.blocks();
            if (size == 8) multiply_panel<P, GROUP>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 4) multiply_panel<P, 4>(weight, inputs, at, scale, start, ahead, sums);
            else if (size == 2) multiply_panel<P, 2>(weight, inputs, at, scale, start, ahead, sums);
            else multiply_panel<P, 1>(weight, inputs, at, scale, start, ahead, sums);
            for (int64_t m = 0; m < size; m++) {
                float* values = sums + m * PANEL;
                if (P == INT8)
                    for (int i = 0; i < count; i++) values[i] *= matrix.scale[output + i];
                for (int i = 0; i < count; i++) values[i] += matrix.bias[output + i];
                take(row + m, output, values, count);
            }
        }
    }
}

// A thread's share [begin, end) of `count` things.
struct Share {
    int64_t begin, end;
    Share(int64_t count, int64_t thread, int64_t threads)
        : begin(count * thread / threads), end(count * (thread + 1) / threads) {}
};

Share panels(const Matrix& matrix, int64_t thread, int64_t threads) {
    return Share((matrix.outputs + PANEL - 1) / PANEL, thread, threads);
}

// Returns what puts outputs into rows of `width`.
inline auto copy_to(float* out, int64_t width) {
    return [=](int64_t row, int64_t output, const float* values, int count) {
        std::copy_n(values, count, out + row * width + output);
    };
}

// --- what stands between products ------------------------------------------------------------------------------------

void normalise(const float* x, const float* weight, const float* bias, float* out, int64_t width) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += x[i];
    const float mean = sum / float(width);
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / std::sqrt(squares / float(width) + 1e-5f);
    for (int64_t i = 0; i < width; i++) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

void quick_gelu(float* x, int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] = x[i] / (1 + exponential(-1.702f * x[i]));
}

// Attends with one query to `count` keys, and gives zeros where there are none; `weights` is room for as many numbers.
template <class Cached>
void attend(const float* query, const Cached* keys, const Cached* values, int64_t count, int64_t width, float* weights,
            float* out) {
    const float scale = 1 / std::sqrt(float(width));
    float largest = -INFINITY, total = 0;
    for (int64_t key = 0; key < count; key++) {
        float score = 0;
        const Cached* at = keys + key * width;
#pragma omp simd reduction(+ : score)
        for (int64_t i = 0; i < width; i++) score += query[i] * load(at + i);
        weights[key] = score * scale;
        largest = std::max(largest, weights[key]);
    }
    for (int64_t key = 0; key < count; key++) weights[key] = exponential(weights[key] - largest);
    for (int64_t key = 0; key < count; key++) total += weights[key];
    std::fill_n(out, width, 0.0f);
    for (int64_t key = 0; key < count; key++) {
        const float weight = weights[key] / total;
        const Cached* at = values + key * width;
        for (int64_t i = 0; i < width; i++) out[i] += weight * load(at + i);
    }
}

// --- the step --------------------------------------------------------------------------------------------------------

// Where threads wait for each other, ten times a layer. One that waits looks for a while, which is all it takes where the
// cores are its own, and then sleeps: on a machine that does other things besides, it would keep the core from the
// thread that it waits for, and a step would take as long as the system's turns, a hundred times its own time.
class Barrier {
   public:
    int32_t threads = 1;

    void wait() {
        const int32_t now = turn.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            turn.notify_all();
            return;
        }
        for (int look = 0; look < LOOKS; look++) {
            if (turn.load(std::memory_order_acquire) != now) return;
#if WIDE
            _mm_pause();
#endif
        }
        turn.wait(now, std::memory_order_acquire);
    }

   private:
    static constexpr int LOOKS = 2000;  // some 50 microseconds
    std::atomic<int32_t> arrived{0}, turn{0};
};

// What the threads of a step share, cut out of one buffer. `weights` alone is a thread's own.
struct Scratch {
    Operands x;
    float *wide, *heads, *attended, *weights;
    int64_t floats;

    Scratch(const Model& model, int64_t samples, int64_t thread, int64_t threads, float* buffer) {
        const int64_t inner = model.heads * model.head_width, widest = std::max({3 * inner, model.width, model.hidden});
        float* free = buffer;
        const auto take = [&](int64_t count) {
            float* taken = free;
            free += (count + LANES - 1) / LANES * LANES;
            return taken;
        };
        const int64_t blocks = samples * (widest / BLOCK + 1);
        x = {(int32_t*)take(samples * widest), take(blocks), (int32_t*)take(blocks), samples, 0};
        wide = take(samples * widest);
        heads = take(samples * inner);
        attended = take(samples * model.width);
        weights = take(threads * model.most_keys) + thread * model.most_keys;
        floats = free - buffer;
    }
};

template <int32_t P, class Cached> class Walk {
   public:
    Walk(const Model& model, const Span* spans, float* x, int64_t samples, float* scratch, int64_t thread,
         int64_t threads, Barrier& barrier)
        : model(model), spans(spans), x(x), samples(samples), thread(thread), threads(threads), barrier(barrier),
          s(model, samples, thread, threads, scratch) {}

    void pass(const Layer& layer) {
        const int64_t width = model.width, hidden = model.hidden, inner = model.heads * model.head_width;
        const int64_t projected = layer.project_in.outputs;
        prepare(width, [&](int64_t b) {
            normalise(x + b * width, layer.norm_1_weight, layer.norm_1_bias, s.wide + b * width, width);
            return s.wide + b * width;
        });
        product(layer.project_in, copy_to(s.wide, projected));
        attend_heads(layer, spans[layer.span], projected);
        prepare(inner, [&](int64_t b) { return s.heads + b * inner; });
        product(layer.project_out, [&](int64_t b, int64_t o, const float* values, int count) {
            for (int i = 0; i < count; i++) s.attended[b * width + o + i] = x[b * width + o + i] + values[i];
        });
        prepare(width, [&](int64_t b) {
            normalise(s.attended + b * width, layer.norm_2_weight, layer.norm_2_bias, s.wide + b * width, width);
            return s.wide + b * width;
        });
        product(layer.feed_in, copy_to(s.wide, hidden));
        prepare(hidden, [&](int64_t b) {
            quick_gelu(s.wide + b * hidden, hidden);
            return s.wide + b * hidden;
        });
        const float scale = model.residual_scale;
        product(layer.feed_out, [&](int64_t b, int64_t o, const float* values, int count) {
            float* at = x + b * width + o;
            const float* attended = s.attended + b * width + o;
            if (scale == 1)
                for (int i = 0; i < count; i++) at[i] = attended[i] + values[i];
            else
                for (int i = 0; i < count; i++) at[i] += scale * (attended[i] - at[i] + values[i]);
        });
    }

   private:
    const Model& model;
    const Span* spans;
    float* x;
    int64_t samples, thread, threads;
    Barrier& barrier;
    Scratch s;

    // Makes operands of what `values(sample)` returns, each thread of its samples.
    template <class Values> void prepare(int64_t inputs, Values values) {
        s.x.inputs = inputs;
        const Share mine(samples, thread, threads);
        for (int64_t b = mine.begin; b < mine.end; b++) set_operands<P>(s.x, b, values(b));
        barrier.wait();
    }

    // Multiplies the operands with this thread's panels.
    template <class Take> void product(const Matrix& matrix, Take take) {
        const Share mine = panels(matrix, thread, threads);
        multiply_panels<P>(matrix, s.x, mine.begin, mine.end, take);
        barrier.wait();
    }

    // Writes keys and values into the cache and attends; each thread its heads.
    void attend_heads(const Layer& layer, const Span& span, int64_t projected) {
        const int64_t width = model.head_width, inner = model.heads * width;
        const Share mine(samples * model.heads, thread, threads);
        for (int64_t item = mine.begin; item < mine.end; item++) {
            const int64_t b = item / model.heads, h = item % model.heads;
            const int64_t offset = b * layer.sample_stride + h * layer.head_stride;
            Cached *keys = (Cached*)layer.keys + offset, *values = (Cached*)layer.values + offset;
            const float* query = s.wide + b * projected + h * width;
            if (span.write >= 0)
                for (int64_t i = 0; i < width; i++) {
                    store(keys + span.write * width + i, query[inner + i]);
                    store(values + span.write * width + i, query[2 * inner + i]);
                }
            attend(query, keys + span.first * width, values + span.first * width, span.count, width, s.weights,
                   s.heads + b * inner + h * width);
        }
        barrier.wait();
    }
};

template <int32_t P, class Cached>
void walk(const Model& model, const Span* spans, float* x, int64_t samples, float* scratch, int64_t threads) {
    Barrier barrier;
#pragma omp parallel num_threads(int(threads))
    {
#pragma omp single
        barrier.threads = omp_get_num_threads();
        Walk<P, Cached> mine(model, spans, x, samples, scratch, omp_get_thread_num(), omp_get_num_threads(), barrier);
        for (int64_t layer = 0; layer < model.depth; layer++) mine.pass(model.layers[layer]);
    }
}

template <int32_t P>
void multiply_rows(const Matrix& matrix, const float* x, float* out, int64_t rows, float* scratch, int64_t threads) {
    Operands operands{(int32_t*)scratch, nullptr, nullptr, rows, matrix.inputs};
    operands.scale = scratch + rows * matrix.inputs;
    operands.start = (int32_t*)operands.scale + rows * operands.blocks();
#pragma omp parallel num_threads(int(threads))
    {
        const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
        const Share mine(rows, thread, team);
        for (int64_t row = mine.begin; row < mine.end; row++)
            set_operands<P>(operands, row, x + row * matrix.inputs);
#pragma omp barrier
        const Share share = panels(matrix, thread, team);
        multiply_panels<P>(matrix, operands, share.begin, share.end, copy_to(out, matrix.outputs));
    }
}

}  // namespace

// Returns how many floats of scratch `step` needs.
int64_t step_scratch(const Model* model, int64_t samples, int64_t threads) {
    return Scratch(*model, samples, 0, threads, nullptr).floats;
}

// Takes x [B, W] through all layers, in place.
void step(const Model* model, const Span* spans, float* x, int64_t samples, float* scratch, int64_t threads) {
    const bool half = model->half_cache;
    switch (model->precision) {
        case FLOAT32:
            return (half ? walk<FLOAT32, uint16_t> : walk<FLOAT32, float>)(*model, spans, x, samples, scratch, threads);
        case BFLOAT16:
            return (half ? walk<BFLOAT16, uint16_t> : walk<BFLOAT16, float>)(*model, spans, x, samples, scratch,
                                                                             threads);
        case INT8:
            return (half ? walk<INT8, uint16_t> : walk<INT8, float>)(*model, spans, x, samples, scratch, threads);
    }
}

// Returns how many floats of scratch `multiply` needs.
int64_t multiply_scratch(const Matrix* matrix, int64_t rows) {
    return rows * (matrix->inputs + 2 * (matrix->inputs / BLOCK + 1));
}

// Computes out [rows, O] of x [rows, I].
void multiply(const Matrix* matrix, int32_t precision, const float* x, float* out, int64_t rows, float* scratch,
              int64_t threads) {
    switch (precision) {
        case FLOAT32: return multiply_rows<FLOAT32>(*matrix, x, out, rows, scratch, threads);
        case BFLOAT16: return multiply_rows<BFLOAT16>(*matrix, x, out, rows, scratch, threads);
        case INT8: return multiply_rows<INT8>(*matrix, x, out, rows, scratch, threads);
    }
}
