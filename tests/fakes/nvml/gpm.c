/* GPM: what two samples of a GPU's or GPU instance's counters say. */
#include "fake.h"

typedef struct { Device *device; int instance; double at; } Sample;
typedef struct {
    uint32_t id, status;
    double value;
    const char *short_name, *long_name, *unit;
} Metric;
typedef struct {
    uint32_t version, count;
    Sample *first, *second;
    Metric metrics[]; /* as many as the caller's header had: only `count` may be touched */
} Metrics;
typedef struct { uint32_t version, supported; } Support;

_Static_assert(sizeof(Metric) == 40, "nvmlGpmMetric_t");
_Static_assert(sizeof(Metrics) == 24, "nvmlGpmMetricsGet_t without its metrics");

static const double APART = 0.1; /* seconds: NVIDIA's least distance of two samples */

static int any(Device *device) {
    char prefix[32];
    int length = snprintf(prefix, sizeof prefix, "gpu.%d.", device->slot);
    for (int i = 0; i < line_count; i++)
        if (!strncmp(lines[i].key, prefix, (size_t)length) && strstr(lines[i].key, "gpm.")) return 1;
    return 0;
}

API nvmlGpmQueryDeviceSupport(Device *device, Support *out) {
    ENTER(device);
    if (out->version != 1) return VERSION_MISMATCH;
    out->supported = (uint32_t)any(device);
    return OK;
}

API nvmlGpmSampleAlloc(Sample **out) {
    ENTER(NULL);
    leases++;
    return (*out = calloc(1, sizeof **out)) ? OK : UNKNOWN;
}

API nvmlGpmSampleFree(Sample *sample) {
    ENTER(NULL);
    leases--;
    free(sample);
    return OK;
}

static int take(Device *device, int instance, Sample *out) {
    if (!any(device)) return NOT_SUPPORTED;
    *out = (Sample){device, instance, clock_now()};
    return OK;
}

API nvmlGpmSampleGet(Device *device, Sample *out) {
    ENTER(device);
    const char *mode = gpu(device, "mig");
    if (mode && number(mode)) return NOT_SUPPORTED;
    return take(device, -1, out);
}

API nvmlGpmMigSampleGet(Device *device, unsigned instance, Sample *out) {
    ENTER(device);
    return device->mig < 0 ? take(device, (int)instance, out) : INVALID_ARGUMENT;
}

API nvmlGpmMetricsGet(Metrics *get_) {
    ENTER(NULL);
    Sample *first = get_->first, *second = get_->second;
    if (get_->version != 1) return VERSION_MISMATCH;
    if (!first->device || first->device != second->device) return INVALID_ARGUMENT;
    if (first->instance != second->instance || second->at - first->at < APART) return UNKNOWN;
    for (uint32_t i = 0; i < get_->count; i++) {
        Metric *metric = &get_->metrics[i];
        char key[48];
        if (first->instance < 0)
            snprintf(key, sizeof key, "gpm.%u", metric->id);
        else
            snprintf(key, sizeof key, "gi.%d.gpm.%u", first->instance, metric->id);
        const char *value = gpu(first->device, key);
        metric->status = value ? OK : NOT_SUPPORTED;
        metric->value = value ? number(value) : 0.0;
    }
    return OK;
}
