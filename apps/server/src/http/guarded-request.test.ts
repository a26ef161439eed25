import { createServer, type RequestListener, type Server } from 'node:http'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { allowedTargets, embeddedIpv4, isForbiddenAddress } from './forbidden-address.ts'
import { ForbiddenTarget, guardedRequest, type Resolve, targetComplaint } from './guarded-request.ts'

const NONE = allowedTargets([])
const LOOPBACK = allowedTargets(['127.0.0.0/8'])

describe('addresses', () => {
  test.each([
    ...['0.0.0.0', '0.1.2.3', '10.0.0.1', '100.64.0.1', '100.127.255.255', '127.0.0.1', '127.255.255.255'],
    ...['169.254.169.254', '172.16.0.1', '172.31.255.255', '192.168.1.1', '192.0.0.8', '198.18.0.1'],
    ...['224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255'],
    ...[
      '::',
      '::1',
      '::127.0.0.1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::ffff:a9fe:a9fe',
      '::ffff:10.0.0.1',
    ],
    ...['64:ff9b::169.254.169.254', '64:ff9b::a00:1', '64:ff9b:1::1', '2002:7f00:1::', '2002:a9fe:a9fe::1'],
    ...['fc00::1', 'fd12:3456::1', 'fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '2001:db8::1', '2001::1'],
    ...['100::1', '5f00::1', 'localhost', '', '127.1', '0x7f000001'],
  ])('%s is forbidden', (address) => {
    expect(isForbiddenAddress(address)).toBe(true)
  })

  test.each([
    ...['1.1.1.1', '8.8.8.8', '100.63.255.255', '100.128.0.1', '172.15.0.1', '172.32.0.1', '223.255.255.255'],
    ...['2606:4700::1111', '2a00:1450:4001::1', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8', '2002:808:808::1'],
  ])('%s is public', (address) => {
    expect(isForbiddenAddress(address)).toBe(false)
  })

  test('an IPv4 address is judged alike however IPv6 wraps it', () => {
    fc.assert(
      fc.property(fc.ipV4(), (inner) => {
        const [a = 0, b = 0, c = 0, d = 0] = inner.split('.').map(Number)
        const groups = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
        for (const wrapped of [
          `::ffff:${inner}`,
          `::ffff:${groups}`,
          `64:ff9b::${groups}`,
          `2002:${groups}::`,
        ]) {
          expect([wrapped, embeddedIpv4(wrapped)]).toEqual([wrapped, inner])
          expect([wrapped, isForbiddenAddress(wrapped)]).toEqual([wrapped, isForbiddenAddress(inner)])
        }
      }),
    )
  })

  test('what is allowed is a network, an address or a host, and anything else is named', () => {
    const allowed = allowedTargets(['10.1.0.0/16', 'fd00::/8', '192.168.0.7', 'Hooks.internal'])
    const addresses = ['10.1.2.3', '10.2.0.1', 'fd12::1', '192.168.0.7', '192.168.0.8', '::ffff:10.1.2.3']
    expect(addresses.map(allowed.allowsAddress)).toEqual([true, false, true, true, false, true])
    expect(['hooks.internal', 'internal'].map(allowed.allowsHost)).toEqual([true, false])
    for (const wrong of ['10.0.0.0/33', '10.0.0.0/', 'http://x', 'a b', '/8']) {
      expect(() => allowedTargets([wrong])).toThrow(wrong)
    }
  })
})

describe('targets', () => {
  const resolve: Resolve = async (host) => {
    const known: Record<string, string[]> = {
      'public.example': ['93.184.215.14'],
      'mixed.example': ['93.184.215.14', '10.0.0.1'],
      'metadata.example': ['169.254.169.254'],
    }
    const addresses = known[host]
    if (addresses === undefined) throw new Error('ENOTFOUND')
    return addresses.map((address) => ({ address, family: 4 }))
  }

  test.each([
    ['nonsense', 'must be a URL'],
    ['file:///etc/passwd', 'must begin with'],
    ['gopher://public.example/', 'must begin with'],
    ['https://user:pass@public.example/', 'user name or password'],
    ['https://public.example:25/', 'port 25'],
    ['https://public.example:6379/', undefined],
    ['http://127.0.0.1/', 'not public'],
    ['http://0x7f.1/', 'not public'],
    ['http://2130706433/', 'not public'],
    ['http://[::1]/', 'not public'],
    ['http://[::ffff:169.254.169.254]/', 'not public'],
    ['https://mixed.example/', '10.0.0.1 is not public'],
    ['https://metadata.example/', '169.254.169.254 is not public'],
    ['https://unknown.example/', 'cannot be resolved'],
    ['https://public.example/services/T/B/x', undefined],
  ])('%s', async (target, complaint) => {
    const found = await targetComplaint(target, { allowed: NONE, resolve })
    if (complaint === undefined) expect(found).toBeUndefined()
    else expect(found).toContain(complaint)
  })
})

describe('a request', () => {
  const servers: Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.closeAllConnections()
      server.close()
    }
  })

  async function serve(listener: RequestListener): Promise<number> {
    const server = createServer(listener)
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    return address.port
  }

  const post = (url: string, timeoutMs = 5_000) => ({ url, headers: {}, body: '{}', timeoutMs })

  test('goes to the address that was checked, whatever the name means later', async () => {
    let reached = 0
    const port = await serve((_request, response) => {
      reached++
      response.end('ok')
    })
    // The name is public when the channel is made, and this machine when it is used.
    const answers = [['93.184.215.14'], ['127.0.0.1'], ['127.0.0.1']]
    let asked = 0
    const resolve: Resolve = async () => (answers[asked++] ?? []).map((address) => ({ address, family: 4 }))
    const url = `http://rebound.example:${port}/`
    expect(await targetComplaint(url, { allowed: NONE, resolve })).toBeUndefined()
    await expect(guardedRequest(post(url), { allowed: NONE, resolve })).rejects.toThrow(ForbiddenTarget)
    expect(reached).toBe(0)
    // Allowed, it is asked for once, and the connection asks nobody again.
    expect(await guardedRequest(post(url), { allowed: LOOPBACK, resolve })).toMatchObject({
      status: 200,
      text: 'ok',
    })
    expect([reached, asked]).toEqual([1, 3])
  })

  test('follows no redirect', async () => {
    const paths: (string | undefined)[] = []
    const port = await serve((request, response) => {
      paths.push(request.url)
      response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end()
    })
    const answer = await guardedRequest(post(`http://127.0.0.1:${port}/hook`), { allowed: LOOPBACK })
    expect([answer.status, paths]).toEqual([302, ['/hook']])
  })

  test('reads the beginning of an answer without end', async () => {
    const port = await serve((_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(4096)));
        if (!response.destroyed) response.once('drain', more)
      }
      more()
    })
    const { text } = await guardedRequest(post(`http://127.0.0.1:${port}/`), { allowed: LOOPBACK })
    expect(text).toHaveLength(16 * 1024)
  })

  test('waits no longer than it is told, for a name neither', async () => {
    const port = await serve(() => undefined)
    await expect(
      guardedRequest(post(`http://127.0.0.1:${port}/`, 50), { allowed: LOOPBACK }),
    ).rejects.toThrow('did not answer within 50 ms')
    const resolve: Resolve = () => new Promise(() => undefined)
    await expect(
      guardedRequest(post('http://slow.example/', 50), { allowed: LOOPBACK, resolve }),
    ).rejects.toThrow('did not answer within 50 ms')
  })
})
