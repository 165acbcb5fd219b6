// One decode step of a transformer on the CPU, all layers in one call; and matrix products with any number of rows.
//
// A decode step of a few samples is bound by memory bandwidth: it reads every weight once and computes little with it.
// Hence one team of threads computes all layers together, and each thread reads its share of a matrix sequentially.
//
// Layout and quantisation of matrices: see weights.h. Shapes: B samples (or other rows), I inputs and O outputs of a
// matrix, W width, H heads, D head width. Sums, norms, softmax and the residual stream are float32.

#include "layers.h"
#include "products.h"

extern "C" {

// Attention, then a feed-forward part. A norm without a bias is a root mean square. A layer whose `feed_in` has no weight
// is attention alone; one of attention to another sequence has queries alone in `project_in`, and writes no key.
struct Layer {
    const float *norm_1_weight, *norm_1_bias, *norm_2_weight, *norm_2_bias;
    Matrix project_in, project_out, feed_in, feed_out;
    void *keys, *values;                 // of the layer's cache
    int64_t sample_stride, head_stride;  // of the cache, in elements; a key follows another after D of them
    int64_t span;                        // index of the layer's span
};

struct Span {       // the keys that a step writes and reads in the caches of one kind of layer, as offsets
    int64_t write;  // -1: nothing is written
    int64_t first, count;
};

struct Model {
    const Layer* layers;
    int64_t depth, width, hidden, heads, head_width, max_keys;
    float residual_scale, epsilon;
    float attention_scale;          // of scores; 0: 1 / sqrt(D)
    int32_t precision, half_cache;  // half_cache: keys and values are bfloat16
    int32_t gated;                  // gelu(first half) * second half of `feed_in`'s outputs, instead of a quick GELU
};

int64_t step_scratch(const Model* model, int64_t samples, int64_t threads);
void step(const Model* model, const Span* spans, const int64_t* rows, float* x, int64_t samples, float* scratch,
          int64_t threads);
int64_t multiply_scratch(const Matrix* matrix, int64_t rows);
void multiply(const Matrix* matrix, int32_t precision, const float* x, float* out, int64_t rows, float* scratch,
              int64_t threads);
}

namespace {

// --- the step --------------------------------------------------------------------------------------------------------

// A barrier, reached ten times a layer. A waiting thread spins for a while, which suffices where the cores are idle
// otherwise, and then sleeps: on a busy machine a spinning thread would keep the core from the thread it waits for, and
// a step would take as long as the scheduler's time slices, a hundred times its own time.
class Barrier {
   public:
    int32_t threads = 1;

    void wait() {
        const int32_t now = generation.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            generation.store(now + 1, std::memory_order_release);
            generation.notify_all();
            return;
        }
        for (int spin = 0; spin < SPINS; spin++) {
            if (generation.load(std::memory_order_acquire) != now) return;
#if WIDE
            _mm_pause();
#endif
        }
        generation.wait(now, std::memory_order_acquire);
    }

   private:
    static constexpr int SPINS = 2000;  // about 50 microseconds
    std::atomic<int32_t> arrived{0}, generation{0};
};

// Buffers shared by the threads of a step, allocated from one; only `weights` is private to a thread.
struct Scratch {
    Operands x;
    float *wide, *heads, *attended, *weights;
    int64_t floats;

    Scratch(const Model& model, int64_t samples, int64_t thread, int64_t threads, float* buffer) {
        const int64_t inner = model.heads * model.head_width;
        const int64_t widest = std::max({3 * inner, model.width, (model.gated ? 2 : 1) * model.hidden});
        FloatArena arena{buffer};
        x = Operands::in(arena, samples, widest);
        wide = arena.allocate(samples * widest);
        heads = arena.allocate(samples * inner);
        attended = arena.allocate(samples * model.width);
        weights = arena.allocate(threads * model.max_keys) + thread * model.max_keys;
        floats = arena.free - buffer;
    }
};

// One thread's part of a decode step.
template <int32_t P, class Cached> class DecodeStep {
   public:
    DecodeStep(const Model& model, const Span* spans, const int64_t* rows, float* x, int64_t samples, float* scratch,
         int64_t thread, int64_t threads, Barrier& barrier)
        : model(model), spans(spans), rows(rows), x(x), samples(samples), thread(thread), threads(threads), barrier(barrier),
          s(model, samples, thread, threads, scratch) {}

    void compute(const Layer& layer) {
        const int64_t width = model.width, hidden = model.hidden, inner = model.heads * model.head_width;
        const int64_t projected = layer.project_in.outputs;
        // 1) Queries, keys and values of the normalised input.
        prepare(width, [&](int64_t b) {
            normalise(x + b * width, layer.norm_1_weight, layer.norm_1_bias, model.epsilon, s.wide + b * width, width);
            return s.wide + b * width;
        });
        product(layer.project_in, copy_to(s.wide, projected));
        // 2) Attention, its output projection, and the residual connection.
        attend_heads(layer, projected);
        prepare(inner, [&](int64_t b) { return s.heads + b * inner; });
        if (!layer.feed_in.weight)
            return product(layer.project_out, [&](int64_t b, int64_t o, const float* values, int count) {
                for (int i = 0; i < count; i++) x[b * width + o + i] += values[i];
            });
        product(layer.project_out, [&](int64_t b, int64_t o, const float* values, int count) {
            for (int i = 0; i < count; i++) s.attended[b * width + o + i] = x[b * width + o + i] + values[i];
        });
        // 3) Feed-forward, and the residual connection.
        prepare(width, [&](int64_t b) {
            normalise(s.attended + b * width, layer.norm_2_weight, layer.norm_2_bias, model.epsilon, s.wide + b * width,
                      width);
            return s.wide + b * width;
        });
        const int64_t fed = layer.feed_in.outputs;
        product(layer.feed_in, copy_to(s.wide, fed));
        prepare(hidden, [&](int64_t b) {
            float* at = s.wide + b * fed;
            if (model.gated) gated_gelu(at, at + hidden, hidden);
            else quick_gelu(at, hidden);
            return at;
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
    const int64_t* rows;
    float* x;
    int64_t samples, thread, threads;
    Barrier& barrier;
    Scratch s;

    // Converts `values(sample)` to operands; each thread those of its share of the samples.
    template <class Values> void prepare(int64_t inputs, Values values) {
        s.x.inputs = inputs;
        s.x.tiled = by_tiles<P>(inputs, samples);
        const Share mine(samples, thread, threads);
        for (int64_t b = mine.begin; b < mine.end; b++) set_operands<P>(s.x, b, values(b));
        barrier.wait();
    }

    // Multiplies the operands with this thread's share of the panels.
    template <class Emit> void product(const Matrix& matrix, Emit emit) {
        const Share mine = panels(matrix, thread, threads);
        multiply_panels<P>(matrix, s.x, mine.begin, mine.end, emit);
        barrier.wait();
    }

    // Writes keys and values to the cache and attends; each thread for its share of the heads.
    void attend_heads(const Layer& layer, int64_t projected) {
        const Span& span = spans[layer.span];
        const float scale = model.attention_scale > 0 ? model.attention_scale : 1 / std::sqrt(float(model.head_width));
        const int64_t width = model.head_width, inner = model.heads * width;
        const Share mine(samples * model.heads, thread, threads);
        for (int64_t item = mine.begin; item < mine.end; item++) {
            const int64_t b = item / model.heads, h = item % model.heads;
            const int64_t row = rows ? rows[layer.span * samples + b] : b;
            const int64_t offset = row * layer.sample_stride + h * layer.head_stride;
            Cached *keys = (Cached*)layer.keys + offset, *values = (Cached*)layer.values + offset;
            const float* query = s.wide + b * projected + h * width;
            if (span.write >= 0)
                for (int64_t i = 0; i < width; i++) {
                    store(keys + span.write * width + i, query[inner + i]);
                    store(values + span.write * width + i, query[2 * inner + i]);
                }
            attend(query, keys + span.first * width, values + span.first * width, span.count, width, scale,
                   s.weights, s.heads + b * inner + h * width);
        }
        barrier.wait();
    }
};

template <int32_t P, class Cached>
void decode_step(const Model& model, const Span* spans, const int64_t* rows, float* x, int64_t samples, float* scratch,
                 int64_t threads) {
    Barrier barrier;
#pragma omp parallel num_threads(int(threads))
    {
        const TileConfiguration tiles;
#pragma omp single
        barrier.threads = omp_get_num_threads();
        DecodeStep<P, Cached> step(model, spans, rows, x, samples, scratch, omp_get_thread_num(),
                                   omp_get_num_threads(), barrier);
        for (int64_t layer = 0; layer < model.depth; layer++) step.compute(model.layers[layer]);
    }
}

template <int32_t P>
void multiply_rows(const Matrix& matrix, const float* x, float* out, int64_t rows, float* scratch, int64_t threads) {
    FloatArena arena{scratch};
    Operands operands = Operands::in(arena, rows, matrix.inputs);
    operands.tiled = by_tiles<P>(matrix.inputs, rows);
#pragma omp parallel num_threads(int(threads))
    {
        const TileConfiguration tiles;
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

// Returns the size of `step`'s scratch in floats.
int64_t step_scratch(const Model* model, int64_t samples, int64_t threads) {
    return Scratch(*model, samples, 0, threads, nullptr).floats;
}

// Computes all layers for x [B, W], in place. `rows` [spans, B] are the rows of the caches that the samples have; null:
// row b is that of sample b.
void step(const Model* model, const Span* spans, const int64_t* rows, float* x, int64_t samples, float* scratch,
          int64_t threads) {
    const auto compute = [&](auto work) { work(*model, spans, rows, x, samples, scratch, threads); };
    const bool half = model->half_cache;
    switch (model->precision) {
        case FLOAT32: return compute(half ? decode_step<FLOAT32, uint16_t> : decode_step<FLOAT32, float>);
        case BFLOAT16: return compute(half ? decode_step<BFLOAT16, uint16_t> : decode_step<BFLOAT16, float>);
        case INT8: return compute(half ? decode_step<INT8, uint16_t> : decode_step<INT8, float>);
    }
}

// Returns the size of `multiply`'s scratch in floats.
int64_t multiply_scratch(const Matrix* matrix, int64_t rows) {
    FloatArena arena{nullptr};
    Operands::in(arena, rows, matrix->inputs);
    return arena.free - (float*)nullptr;
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
