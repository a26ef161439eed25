/** Fixed texts of different kinds, on which tokenizers are measured (docs/reference/tokenizers.md). */
export const CORPUS = {
  English: `The committee met on a rainy Thursday to decide what should become of the old mill. Nobody had used it
since 1957, and the roof had fallen in twice; yet its wheel still turned when the river was high. "We could sell
it," said the treasurer, who had already asked three estate agents for their opinion, "but who'd buy a building
that needs $250,000 of repairs before anyone can stand in it?" Mrs. Whitcombe disagreed. Her grandmother had worked
there as a girl, carrying flour down the narrow stairs, and she thought that the village owed the place more than a
signature on a contract. After two hours of argument they did what committees do: they appointed another committee,
asked it to report by the end of March, and went home in the dark, each of them sure that the others had agreed.`,
  German: `Die Rechnung vom 14. November weist 1.284,50 € aus, obwohl das Angebot nur 1.120,00 € vorsah. Bitte prüfen Sie,
ob die Überstunden der Monteure doppelt erfasst wurden; nach unseren Aufzeichnungen waren es höchstens zwölf Stunden.
Außerdem fehlt die Gutschrift für die zurückgesandten Verschraubungen. Sollten wir uns bis zum Monatsende nicht
einigen können, übergeben wir die Angelegenheit unserer Rechtsabteilung – was wir, ehrlich gesagt, gern vermieden
hätten.`,
  French: `Où est passée la clé du grenier ? L'été dernier, nous l'avions cachée derrière la poutre, près de la fenêtre
qu'on n'ouvre jamais. Ma tante prétend qu'un voisin l'a empruntée pour chercher de vieilles photographies ; moi, je
crois plutôt qu'elle est tombée entre deux lames du plancher. Quoi qu'il en soit, il faudra bien l'ouvrir avant Noël,
puisque les guirlandes, les santons et le vieux phonographe s'y trouvent encore.`,
  Chinese: `我们昨天检查了所有的账单，发现有三笔费用被重复计算。第一笔是十月份的服务器租金，第二笔是翻译费，第三笔的来源还不清楚。
请财务部门在本周五之前核对原始合同，并把结果发给各个项目的负责人。如果供应商不同意退款，我们可以把差额记入下个月的预算，
但是必须先得到总经理的书面批准。另外，新的报销系统将于十二月一日上线，旧系统保留到年底，只能查询，不能修改。`,
  Japanese: `先週の会議では、来年度の予算について長い時間をかけて話し合いました。田中さんは人件費を減らすべきだと主張しましたが、
多くの参加者は反対でした。結局、結論は出ず、次回までに各部署が具体的な案を用意することになりました。ところで、新しい
プリンターの調子が悪いので、急ぎの書類は三階の機械を使ってください。修理の担当者は木曜日の午後に来る予定です。`,
  Code: `export async function retry<T>(work: () => Promise<T>, { attempts = 5, baseMs = 250 } = {}): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt >= attempts || !(error instanceof TransientError)) throw error
      // Full jitter: replicas that failed together must not come back together.
      const waitMs = Math.random() * Math.min(30_000, baseMs * 2 ** attempt)
      await new Promise((resolve) => setTimeout(resolve, waitMs))
    }
  }
}

def percentile(values: list[float], q: float) -> float:
    """Linear interpolation between closest ranks."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * q
    low, high = int(position), min(int(position) + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

select customer_id, date_trunc('month', ts) as month, sum(cost_usd) as cost
from usage_event where ts >= now() - interval '90 days' group by 1, 2 having sum(cost_usd) > 0 order by 3 desc;`,
  JSON: `{"order_id":"ord_8f2c91","status":"partially_shipped","customer":{"id":48213,"name":"Aylin Öztürk","vip":false},
"lines":[{"sku":"KB-104-BLK","quantity":2,"unit_price":"59.90","currency":"EUR","shipped":true},{"sku":"MS-220",
"quantity":1,"unit_price":"24.50","currency":"EUR","shipped":false,"backorder":{"expected":"2026-02-11","supplier":null}}],
"totals":{"net":"144.30","tax":"27.42","gross":"171.72"},"tags":["b2c","newsletter","black-friday-2025"],
"created_at":"2025-11-28T07:41:09.512Z","trace":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`,
} as const satisfies Readonly<Record<string, string>>
