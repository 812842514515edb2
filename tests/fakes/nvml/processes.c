/* Processes of a GPU or slice. */
#include "fake.h"

typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; } Process;
typedef struct { uint32_t pid; uint64_t memory; uint32_t gi, ci; uint64_t protected; } Process535;
typedef struct { uint32_t pid; uint64_t timestamp; uint32_t sm, memory, encoder, decoder; } Use;

_Static_assert(sizeof(Process) == 24, "nvmlProcessInfo_t");
_Static_assert(sizeof(Use) == 32, "nvmlProcessUtilizationSample_t");

/* The pids of a GPU's processes that have that key, ascending as text. */
static unsigned pids(Device *device, const char *key, unsigned *out, unsigned room) {
    char prefix[48];
    unsigned count = 0;
    int length = snprintf(prefix, sizeof prefix, "gpu.%d.process.", device->slot);
    if (device->mig >= 0)
        length = snprintf(prefix, sizeof prefix, "gpu.%d.mig.%d.process.", device->slot, device->mig);
    for (int i = 0; i < line_count && count < room; i++) {
        if (strncmp(lines[i].key, prefix, (size_t)length)) continue;
        char *end;
        unsigned pid = (unsigned)strtoul(lines[i].key + length, &end, 10);
        if (*end == '.' && !strcmp(end + 1, key)) out[count++] = pid;
    }
    return count;
}

static const char *process(Device *device, unsigned pid, const char *key) {
    char name[64];
    snprintf(name, sizeof name, "process.%u.%s", pid, key);
    return gpu(device, name);
}

static int processes(Device *device, unsigned *count, Process *out, int is_535) {
    unsigned found[1024], n = pids(device, "memory", found, 1024), room = *count;
    *count = n;
    if (!out || n > room) return n ? INSUFFICIENT_SIZE : OK;
    for (unsigned i = 0; i < n; i++) {
        const char *memory = process(device, found[i], "memory");
        uint64_t bytes = strcmp(memory, "n/a") ? (uint64_t)number(memory) : ~0ULL;
        if (is_535 && (i + 1) * sizeof(Process535) <= room * sizeof(Process))
            ((Process535 *)(void *)out)[i] = (Process535){found[i], bytes, ~0u, ~0u, 0};
        else if (!is_535)
            out[i] = (Process){found[i], bytes, ~0u, ~0u};
    }
    return OK;
}

API nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, count, out, 0);
}

API nvmlDeviceGetProcessUtilization(Device *device, Use *out, unsigned *count, unsigned long long since) {
    ENTER(device);
    unsigned found[1024], n = pids(device, "sm", found, 1024), fresh = 0;
    const char *mode = gpu(device_at(device->slot, -1), "mig");
    if (mode && number(mode)) return NOT_SUPPORTED;
    for (unsigned i = 0; i < n; i++) {
        const char *sampled = process(device, found[i], "sampled_us");
        uint64_t at = (uint64_t)(sampled ? number(sampled) : clock_now() * 1e6);
        if (at <= since) continue;
        if (out && fresh < *count)
            out[fresh] = (Use){found[i], at, (uint32_t)number(process(device, found[i], "sm")), 0, 0, 0};
        fresh++;
    }
    if (!fresh) return NOT_FOUND;
    int fits = out && fresh <= *count;
    *count = fresh;
    return fits ? OK : INSUFFICIENT_SIZE;
}

#ifndef OLD_DRIVER
API nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, count, out, get("abi_535") != NULL);
}
#endif
