-- Health of a ModelMigration for Argo CD; agrees with kstatus on every fixture in testdata/.
local hs = { status = "Progressing", message = "Waiting for the operator" }
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Being deleted"
  return hs
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local found = {}
for _, condition in ipairs(obj.status.conditions or {}) do
  found[condition.type] = condition
end
local ready = found["Ready"]
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return hs
end
hs.message = ready.reason .. ": " .. ready.message
if found["Suspended"] ~= nil and found["Suspended"].status == "True" then
  hs.status = "Suspended"
elseif found["Stalled"] ~= nil and found["Stalled"].status == "True" then
  hs.status = "Degraded"
  hs.message = found["Stalled"].reason .. ": " .. found["Stalled"].message
elseif ready.status == "True" then
  hs.status = "Healthy"
end
return hs
