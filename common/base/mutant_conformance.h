// Holds a conformance suite to its purpose: instantiated with mutants, implementations that break a rule
// each, every case of the suite must fail for one of them, and every mutant must fail a case.
//
//   INSTANTIATE_TEST_SUITE_P(AlwaysOk, SomeConformanceTest, ...);   // one instantiation per mutant
//   int main(int argc, char** argv) { return trun::RunMutants(&argc, argv); }
#ifndef TRUN_COMMON_BASE_MUTANT_CONFORMANCE_H_
#define TRUN_COMMON_BASE_MUTANT_CONFORMANCE_H_

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <string>

namespace trun {

// Counts, instead of printing, what failed.
class MutantVerdicts final : public ::testing::EmptyTestEventListener {
 public:
  void OnTestEnd(const ::testing::TestInfo& test) override {
    const std::string suite = test.test_suite_name(), name = test.name();
    const int failed = test.result()->Failed() ? 1 : 0;
    failures_of_mutant_[suite.substr(0, suite.find('/'))] += failed;
    failures_of_case_[name.substr(0, name.find('/'))] += failed;
  }

  // 0 when each failed at least once; says which did not.
  int Report() const {
    int silent = 0;
    for (const auto& [mutant, failures] : failures_of_mutant_) {
      if (failures == 0) std::printf("the suite takes the mutant %s\n", mutant.c_str());
      silent += failures == 0;
    }
    for (const auto& [name, failures] : failures_of_case_) {
      if (failures == 0) std::printf("no mutant fails the case %s\n", name.c_str());
      silent += failures == 0;
    }
    std::printf("%zu mutants, %zu cases, %d that see nothing\n", failures_of_mutant_.size(),
                failures_of_case_.size(), silent);
    return silent == 0 && !failures_of_case_.empty() ? 0 : 1;
  }

 private:
  std::map<std::string, int> failures_of_mutant_, failures_of_case_;
};

// Runs all tests of the binary; the exit code for main.
inline int RunMutants(int* argc, char** argv) {
  ::testing::InitGoogleTest(argc, argv);
  ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  auto* verdicts = new MutantVerdicts;  // owned by gtest
  listeners.Append(verdicts);
  [[maybe_unused]] const int failing_is_the_point = RUN_ALL_TESTS();
  return verdicts->Report();
}

}  // namespace trun

#endif  // TRUN_COMMON_BASE_MUTANT_CONFORMANCE_H_
