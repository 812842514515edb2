/* The NVLink fabric that a GPU is in. */
#include "fake.h"

typedef struct {
    uint32_t version;
    uint8_t cluster[16];
    uint32_t status, clique, state, mask;
    uint8_t summary; /* from version 3 on */
} Fabric;

enum { FABRIC_2 = 36 | 2 << 24, FABRIC_3 = 40 | 3 << 24 };
_Static_assert(sizeof(Fabric) == 40, "nvmlGpuFabricInfo_v3_t");

API nvmlDeviceGetGpuFabricInfoV(Device *device, Fabric *out) {
    ENTER(device);
    const char *newest = get("fabric_version"), *value = gpu(device, "fabric");
    const char *cluster = gpu(device, "fabric_uuid");
    unsigned version = out->version >> 24, summary = 0;
    if (out->version != FABRIC_2 && out->version != FABRIC_3) return VERSION_MISMATCH;
    if (newest && version > (unsigned)number(newest)) return VERSION_MISMATCH;
    if (!value) return NOT_SUPPORTED;
    int found = sscanf(
        value, "%u %u %u %x %u", &out->state, &out->status, &out->clique, &out->mask, &summary
    );
    if (version == 3) out->summary = (uint8_t)summary;
    for (int i = 0; i < 16; i++) {
        unsigned byte = 0;
        if (cluster) sscanf(cluster + 2 * i, "%2x", &byte);
        out->cluster[i] = (uint8_t)byte;
    }
    return found == 5 ? OK : UNKNOWN;
}
