/* A stand-in for NVIDIA's libnvidia-ml.so.1, driven by a scenario file.
 *
 * It speaks NVML's binary interface, as the real pynvml calls it: signatures, struct layouts and
 * return codes are those of NVIDIA's published API reference; all code here is our own.
 *
 * The file named by W2T_FAKE_NVML holds `key = value` lines ('#' starts a comment) and is read
 * again whenever it changes. A number may be a ramp, `base + rate @ t0`: rate is per second since
 * t0, in seconds since the epoch, so that mW make mJ. What the file does not give is NOT_SUPPORTED.
 *
 *   driver = 580.105.08        init_error = 9
 *   hang = FUNCTION            crash = FUNCTION         (or FUNCTION GPU-UUID, for one GPU)
 *   event.K = UUID XID         each K is delivered once   event_error = CODE
 *   gpu.N.uuid|name|serial|vbios|bus_id = text          gpu.N.arch|pci_device_id|mig = number
 *   gpu.N.error = CODE         gpu.N.FUNCTION.error = CODE
 *   gpu.N.field.ID[.SCOPE] = number[ u32], or: error CODE   gpu.N.timestamp_us = of all fields
 *   gpu.N.power_mw|power_limit_mw|energy_mj|margin|reasons|reasons_supported = number
 *   gpu.N.temperature = of the GPU                      gpu.N.temperature_max = highest sensor
 *   gpu.N.threshold.TYPE|clock.TYPE|clock_max.TYPE|violation.POLICY = number
 *   gpu.N.utilization.gpu|utilization.memory = percent  gpu.N.memory.total|reserved|used = bytes
 *   gpu.N.process.PID.memory = bytes, or: n/a           gpu.N.process.PID.sm = percent
 *   gpu.N.process.PID.sampled_us = time of its sample   abi_535 = 1 (process list as of 535.43)
 *   gpu.N.ecc.TYPE.COUNTER.LOCATION = errors            gpu.N.histogram = five numbers of banks
 *   gpu.N.pcie.gen|gen_max|width|width_max = number     gpu.N.nvlink.LINK = state (old drivers)
 *   gpu.N.fabric = state status clique mask summary     gpu.N.fabric_uuid = 32 hex digits
 *   fabric_version = newest struct that is known        gpu.N.gpm.ID = value (all of GPM needs one)
 *   gpu.N.mig_max = slots      gpu.N.mig.M.KEY = slice in slot M; keys as of a GPU, and
 *   gpu.N.mig.M.gi|ci = ids    gpu.N.mig.M.attributes = SMs, GPU and compute slices, MiB
 *   gpu.N.gi.G.gpm.ID = value of GPU instance G
 *
 * GPUs keep their slot N; their NVML index is their rank among those that are there.
 * -DOLD_DRIVER leaves out what drivers before 510 do not export.
 */
#ifndef FAKE_H
#define FAKE_H
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define API __attribute__((visibility("default"))) int
#define VERSION(type, n) ((uint32_t)(sizeof(type) | (n) << 24))

enum {
    OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
    VERSION_MISMATCH = 25, UNKNOWN = 999
};
enum { GPUS = 64, SLOTS = 8, LINES = 16384 };

/* A GPU, or the slice in one of its slots (mig >= 0). */
typedef struct { int slot, mig; } Device;

extern struct line { char *key, *value; } lines[LINES];
extern int line_count, sessions;
extern int leases; /* samples and event sets that are not freed */

const char *get(const char *key);
const char *gpu(Device *device, const char *key);
const char *gpu_n(Device *device, const char *key, unsigned n);
Device *device_at(int slot, int mig);
double clock_now(void);
double number_at(const char *value, double now);
double number(const char *value);

/* What every call does first: look at the scenario; hang while it says so, crash or fail. */
int enter(Device *device, const char *function);
#define ENTER(device)                                     \
    do {                                                  \
        int status_ = enter((device), __func__);          \
        if (status_) return status_;                      \
    } while (0)

int give_text(const char *value, char *out, unsigned size);
int give_uint(const char *value, unsigned *out);
int give_ull(const char *value, unsigned long long *out);
#endif
