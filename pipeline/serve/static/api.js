// What the server is asked. A refusal is an Error with the server's line.

async function asked(path, parameters = {}, options = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== '' && value !== null && value !== undefined) query.set(name, value);
  }
  const tail = query.size ? `?${query}` : '';
  let answer;
  try {
    answer = await fetch(path + tail, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('the server does not answer; is it still running?');
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer;
}

const json = async (path, parameters, options) => (await asked(path, parameters, options)).json();

const of = (id) => `/api/videos/${id}`;

export const api = {
  overview: () => json('/api/overview'),
  searchable: () => json('/api/searchable'),
  search: (parameters) => json('/api/search', parameters),
  videos: (parameters) => json('/api/videos', parameters),
  failures: (parameters) => json('/api/failures', parameters),
  video: (id) => json(of(id)),
  index: (id) => json(`${of(id)}/index`),
  boxes: (id, start, stop) => json(`${of(id)}/boxes`, { start, stop }),
  masks: (id, start, stop) => json(`${of(id)}/masks`, { start, stop }),
  tracks: (id, start, stop) => json(`${of(id)}/tracks`, { start, stop }),
  trackMasks: (id, start, stop) => json(`${of(id)}/trackmasks`, { start, stop }),
  trackList: (id, offset, limit) => json(`${of(id)}/tracklist`, { offset, limit }),
  timeline: (id, parts) => json(`${of(id)}/timeline`, { parts }),
  picture: async (id, frame, signal) => {
    const answer = await asked(`${of(id)}/frames/${frame}.png`, {}, { signal });
    return createImageBitmap(await answer.blob());
  },
};

export const thumbnail = (id, frame) => `${of(id)}/frames/${frame}.jpg?width=384`;
export const pictureUrl = (id, frame) => `${of(id)}/frames/${frame}.png`;
export const mediaUrl = (id) => `/media/${id}`;
export const videoLink = (id, parameters = {}) => {
  const query = new URLSearchParams(parameters);
  return `#/video/${id}${query.size ? `?${query}` : ''}`;
};
