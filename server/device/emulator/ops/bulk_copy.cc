// cp.async.bulk, cp.async.bulk.tensor and cp.reduce.async.bulk.
#include "server/device/emulator/ops/families.h"

namespace trun::device {

Operation DecodeBulkCopy(Form& form, bool) { return form.Unsupported("bulk copies"); }

Operation DecodeCopyArrive(Form& form) { return form.Unsupported("arrivals of copies at mbarriers"); }

}  // namespace trun::device
