#pragma once
// The judgement of every check: pure, from facts to a finding.

#include "isolation/facts.hpp"

namespace infrastructure_sdk::isolation {

Finding judge_cmp_01(const CheckDefinition&, const Facts&);
Finding judge_cmp_02(const CheckDefinition&, const Facts&);
Finding judge_cmp_03(const CheckDefinition&, const Facts&);
Finding judge_cmp_04(const CheckDefinition&, const Facts&);
Finding judge_cmp_05(const CheckDefinition&, const Facts&);
Finding judge_cmp_06(const CheckDefinition&, const Facts&);
Finding judge_cmp_07(const CheckDefinition&, const Facts&);
Finding judge_cmp_08(const CheckDefinition&, const Facts&);

Finding judge_net_01(const CheckDefinition&, const Facts&);
Finding judge_net_02(const CheckDefinition&, const Facts&);
Finding judge_net_03(const CheckDefinition&, const Facts&);
Finding judge_net_04(const CheckDefinition&, const Facts&);
Finding judge_net_05(const CheckDefinition&, const Facts&);
Finding judge_net_06(const CheckDefinition&, const Facts&);
Finding judge_net_07(const CheckDefinition&, const Facts&);
Finding judge_net_08(const CheckDefinition&, const Facts&);
Finding judge_net_09(const CheckDefinition&, const Facts&);
Finding judge_net_10(const CheckDefinition&, const Facts&);
Finding judge_net_11(const CheckDefinition&, const Facts&);
Finding judge_net_12(const CheckDefinition&, const Facts&);
Finding judge_net_13(const CheckDefinition&, const Facts&);

Finding judge_sto_01(const CheckDefinition&, const Facts&);
Finding judge_sto_02(const CheckDefinition&, const Facts&);
Finding judge_sto_03(const CheckDefinition&, const Facts&);
Finding judge_sto_04(const CheckDefinition&, const Facts&);
Finding judge_sto_05(const CheckDefinition&, const Facts&);
Finding judge_sto_06(const CheckDefinition&, const Facts&);
Finding judge_sto_07(const CheckDefinition&, const Facts&);
Finding judge_sto_08(const CheckDefinition&, const Facts&);
Finding judge_sto_09(const CheckDefinition&, const Facts&);

Finding judge_run_01(const CheckDefinition&, const Facts&);
Finding judge_run_02(const CheckDefinition&, const Facts&);
Finding judge_run_03(const CheckDefinition&, const Facts&);
Finding judge_run_04(const CheckDefinition&, const Facts&);
Finding judge_run_05(const CheckDefinition&, const Facts&);
Finding judge_run_06(const CheckDefinition&, const Facts&);
Finding judge_run_07(const CheckDefinition&, const Facts&);
Finding judge_run_08(const CheckDefinition&, const Facts&);
Finding judge_run_09(const CheckDefinition&, const Facts&);
Finding judge_run_10(const CheckDefinition&, const Facts&);
Finding judge_run_11(const CheckDefinition&, const Facts&);
Finding judge_run_12(const CheckDefinition&, const Facts&);

Finding judge_mem_01(const CheckDefinition&, const Facts&);
Finding judge_mem_02(const CheckDefinition&, const Facts&);
Finding judge_mem_03(const CheckDefinition&, const Facts&);
Finding judge_mem_04(const CheckDefinition&, const Facts&);
Finding judge_mem_05(const CheckDefinition&, const Facts&);
Finding judge_mem_06(const CheckDefinition&, const Facts&);
Finding judge_mem_07(const CheckDefinition&, const Facts&);
Finding judge_mem_08(const CheckDefinition&, const Facts&);

}  // namespace infrastructure_sdk::isolation
