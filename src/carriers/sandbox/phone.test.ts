import { reportDelivery } from '../../messages/deliver.ts'
import { carrierConformance } from '../conformance.ts'
import { Faults } from './faults.ts'
import { openSandbox } from './phone.ts'

carrierConformance('the sandbox as a carrier', async (base) => {
  const carrier = openSandbox(base, new Faults())
  return {
    carrier,
    report: (event) => reportDelivery({ ...base }, event),
    async taken() {
      const jobs = await base.db.selectFrom('jobs').select('payload').where('kind', '=', 'sandbox.report').execute()
      const planned = jobs.map((job) => JSON.parse(job.payload))
      return planned.filter(({ type }) => type === 'sent').map(({ message_id }) => message_id)
    },
    close: async () => {},
  }
})
