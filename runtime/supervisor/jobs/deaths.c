#include "deaths.h"

int deaths_group_size(int deaths) {
  static const int sizes[] = {0, 0, DEATHS_GROUP_MOST, 8};
  return deaths < DEATHS_ALONE ? sizes[deaths < 0 ? 0 : deaths] : 1;
}

bool deaths_share_group(int a, int b) {
  return deaths_group_size(a) == deaths_group_size(b);
}
